package cli

import (
	"taskcluster/internal/config"
)

// configCommands show the settings that serve would run with.
type configCommands struct {
	Explain configExplainCommand `cmd:"" help:"Print each setting of serve with its value, its origin and what it does."`
	Show    configShowCommand    `cmd:"" help:"Print the values of the settings of serve."`
}

// settingFlags are the settings of serve as flags, and where its file is.
type settingFlags struct {
	Config string `placeholder:"FILE" help:"Settings file, YAML: the names of these flags as keys (default: TASKCLUSTER_CONFIG, or else none)."`
	config.Settings
}

// load joins flags, environment and file.
func (f *settingFlags) load(s *session) (config.Settings, []config.Origin, error) {
	path := f.Config
	if path == "" {
		path = s.getenv("TASKCLUSTER_CONFIG")
	}
	return config.Load(f.Settings, path, s.getenv)
}

type configExplainCommand struct {
	settingFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (*configExplainCommand) Help() string {
	return `Flags win over the environment (TASKCLUSTER_DATA_DIR for --data-dir), the
environment over the file, the file over the default. Secrets are not shown.

` + examples(
		"taskcluster config explain",
		"taskcluster config explain --config taskcluster.yml --json")
}

// Run prints settings with their origins.
func (c *configExplainCommand) Run(s *session) error {
	_, origins, err := c.load(s)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(origins)
	}
	rows := [][]string{{"SETTING", "VALUE", "ORIGIN", "MEANING"}}
	for _, o := range origins {
		value := o.Value
		if value == "" {
			value = "-"
		}
		rows = append(rows, []string{o.Name, value, o.Source, o.Help})
	}
	return table(s.stdout, rows)
}

type configShowCommand struct {
	settingFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (*configShowCommand) Help() string {
	return "Secrets are not shown.\n\n" + examples("taskcluster config show", "taskcluster config show --json")
}

// Run prints the values that are set.
func (c *configShowCommand) Run(s *session) error {
	_, origins, err := c.load(s)
	if err != nil {
		return err
	}
	values := map[string]string{}
	var rows [][]string
	for _, o := range origins {
		if o.Value != "" {
			values[o.Name] = o.Value
			rows = append(rows, []string{o.Name, o.Value})
		}
	}
	if c.JSON {
		return s.printJSON(values)
	}
	return table(s.stdout, rows)
}
