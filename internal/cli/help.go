package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type helpCommand struct {
	Command []string `arg:"" optional:"" help:"Command to explain, such as task log."`
}

func (*helpCommand) Help() string {
	return examples("taskcluster help run", "taskcluster help task log")
}

// Run prints the help of a command as --help does.
func (c *helpCommand) Run(s *session) error {
	node := s.parser.Model.Node
	for _, word := range c.Command {
		var next *kong.Node
		for _, child := range node.Children {
			if child.Name == word {
				next = child
			}
		}
		if next == nil {
			return usageError(fmt.Sprintf("there is no command %q", strings.Join(c.Command, " ")))
		}
		node = next
	}
	_, err := s.parser.Parse(append(c.Command, "--help"))
	if err != nil && strings.HasPrefix(err.Error(), "expected") {
		return nil // help was printed, an argument is missing: that was the question
	}
	return err
}

// examples formats the examples of a command's help.
func examples(lines ...string) string {
	return "Examples:\n\n    " + strings.Join(lines, "\n    ")
}

// printHelp is kong's printer, with the examples (a command's detail) as they
// are written: kong would fill lines.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	selected := ctx.Selected()
	if selected == nil || selected.Detail == "" {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	detail := selected.Detail
	selected.Detail = ""
	defer func() { selected.Detail = detail }()
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	_, err := fmt.Fprint(ctx.Stdout, "\n", strings.TrimSpace(detail), "\n")
	return err
}

// helpValue adds to a flag's help where else its value may come from. The
// settings of serve say so in tags of their own.
func helpValue(value *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(value)
	if fallback := value.Tag.Get("fallback"); fallback != "" && fallback != "false" {
		help = strings.TrimSuffix(help, ".") + " (default: " + fallback + ")."
	}
	return help
}

// commandPath is the name of a command without the program's, such as "task log".
func commandPath(node *kong.Node) string {
	var words []string
	for ; node != nil && node.Type != kong.ApplicationNode; node = node.Parent {
		words = append([]string{node.Name}, words...)
	}
	return strings.Join(words, " ")
}
