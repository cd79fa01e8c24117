package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (*completionCommand) Help() string {
	return examples(
		`bash:  eval "$(taskcluster completion bash)"`,
		`zsh:   eval "$(taskcluster completion zsh)"`,
		"fish:  taskcluster completion fish | source")
}

// Run prints the script.
func (c *completionCommand) Run(s *session) error {
	words := completions(s.parser.Model.Node, "", nil)
	switch c.Shell {
	case "bash":
		return bashCompletion(s.stdout, words)
	case "zsh":
		return zshCompletion(s.stdout, words)
	}
	return fishCompletion(s.stdout, words)
}

// completed is what can follow one command.
type completed struct {
	path  string // "" or such as "task log"
	subs  []*kong.Node
	flags []*kong.Flag
	files bool     // it takes files as arguments
	words []string // values that an argument may have
}

// completions lists a command and those below it.
func completions(node *kong.Node, path string, list []completed) []completed {
	c := completed{path: path}
	for _, group := range node.AllFlags(true) {
		c.flags = append(c.flags, group...)
	}
	for _, arg := range node.Positional {
		c.files = c.files || arg.Tag.Get("completion") == "files"
		c.words = append(c.words, arg.EnumSlice()...)
	}
	for _, sub := range node.Children {
		if !sub.Hidden {
			c.subs = append(c.subs, sub)
		}
	}
	list = append(list, c)
	for _, sub := range c.subs {
		list = completions(sub, strings.TrimSpace(path+" "+sub.Name), list)
	}
	return list
}

// all is every word that can follow.
func (c *completed) all() string {
	var words []string
	for _, sub := range c.subs {
		words = append(words, sub.Name)
	}
	words = append(words, c.words...)
	for _, flag := range c.flags {
		words = append(words, "--"+flag.Name)
	}
	return strings.Join(words, " ")
}

// walk is the shell code, common to bash and zsh, that finds the command in
// the words before the cursor: $follow becomes what can, $files tells
// whether files can.
func walk(w io.Writer, list []completed, input string) {
	fmt.Fprintf(w, "  local at='' follow='' files='' word\n  for word in %s; do\n    case \"$at $word\" in\n", input)
	for _, c := range list {
		if c.path != "" {
			parent, name := "", c.path
			if i := strings.LastIndexByte(c.path, ' '); i >= 0 {
				parent, name = c.path[:i], c.path[i+1:]
			}
			fmt.Fprintf(w, "      '%s %s') at='%s' ;;\n", parent, name, c.path)
		}
	}
	fmt.Fprint(w, "    esac\n  done\n  case \"$at\" in\n")
	for _, c := range list {
		files := ""
		if c.files {
			files = " files=1"
		}
		fmt.Fprintf(w, "    '%s') follow='%s'%s ;;\n", c.path, c.all(), files)
	}
	fmt.Fprint(w, "  esac\n")
	// Behind a flag that takes a value stands a value: of a list, or any file.
	fmt.Fprint(w, "  case \"$at $previous\" in\n")
	for _, c := range list {
		for _, flag := range c.flags {
			if !flag.IsBool() {
				values := strings.Join(flag.EnumSlice(), " ")
				files := ""
				if values == "" {
					files = " files=1"
				}
				fmt.Fprintf(w, "    '%s --%s') follow='%s'%s ;;\n", c.path, flag.Name, values, files)
			}
		}
	}
	fmt.Fprint(w, "  esac\n")
}

func bashCompletion(w io.Writer, list []completed) error {
	fmt.Fprint(w, "_taskcluster() {\n  local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n")
	walk(w, list, `"${COMP_WORDS[@]:1:COMP_CWORD-1}"`)
	_, err := fmt.Fprint(w, `  local IFS=$'\n'
  COMPREPLY=($(compgen -W "${follow// /$'\n'}" -- "$current"))
  if [ -n "$files" ]; then COMPREPLY+=($(compgen -f -- "$current")); fi
}
complete -o filenames -F _taskcluster taskcluster
`)
	return err
}

func zshCompletion(w io.Writer, list []completed) error {
	fmt.Fprint(w, "#compdef taskcluster\n_taskcluster() {\n  local -a line=(\"${(@)words[2,CURRENT-1]}\")\n  local previous=\"${words[CURRENT-1]}\"\n")
	walk(w, list, `"${line[@]}"`)
	_, err := fmt.Fprint(w, `  compadd -- ${=follow}
  if [ -n "$files" ]; then _files; fi
}
compdef _taskcluster taskcluster
`)
	return err
}

func fishCompletion(w io.Writer, list []completed) error {
	fmt.Fprint(w, "function __taskcluster_command\n  set -l path ''\n  for word in (commandline -opc)[2..-1]\n    switch \"$path $word\"\n")
	for _, c := range list {
		if c.path != "" {
			parent := strings.TrimSuffix(strings.TrimSuffix(c.path, c.path[strings.LastIndexByte(c.path, ' ')+1:]), " ")
			fmt.Fprintf(w, "      case '%s %s'\n        set path '%s'\n", parent, c.path[strings.LastIndexByte(c.path, ' ')+1:], c.path)
		}
	}
	fmt.Fprint(w, "    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\ncomplete -c taskcluster -f\n")
	for _, c := range list {
		when := fmt.Sprintf("complete -c taskcluster -n \"__taskcluster_command '%s'\"", c.path)
		for _, sub := range c.subs {
			fmt.Fprintf(w, "%s -a %s -d %s\n", when, sub.Name, shellQuote(sub.Help))
		}
		for _, word := range c.words {
			fmt.Fprintf(w, "%s -a %s\n", when, word)
		}
		if c.files {
			fmt.Fprintf(w, "%s -F\n", when)
		}
		for _, flag := range c.flags {
			fmt.Fprintf(w, "%s -l %s -d %s", when, flag.Name, shellQuote(flag.Help))
			if flag.Short != 0 {
				fmt.Fprintf(w, " -s %c", flag.Short)
			}
			if values := flag.EnumSlice(); !flag.IsBool() && len(values) > 0 {
				fmt.Fprintf(w, " -x -a '%s'", strings.Join(values, " "))
			} else if !flag.IsBool() {
				fmt.Fprint(w, " -r -F")
			}
			fmt.Fprintln(w)
		}
	}
	_, err := io.WriteString(w, "")
	return err
}
