package cli

import (
	"fmt"
	"os"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

const bashCompletion = `# bash completion for PROGRAM; put it into a file that bash reads, e.g.
#   PROGRAM completion bash > /etc/bash_completion.d/PROGRAM
_PROGRAM_complete() {
    local cur="${COMP_WORDS[COMP_CWORD]}" words
    if [[ "$cur" == -* ]]; then
        words=$("${COMP_WORDS[@]:0:COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
    else
        words=$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _PROGRAM_complete PROGRAM
`

const zshCompletion = `#compdef PROGRAM
# zsh completion for PROGRAM; put it into a folder of your fpath, e.g.
#   PROGRAM completion zsh > "${fpath[1]}/_PROGRAM"
_PROGRAM() {
    local cur="${words[CURRENT]}"
    local -a found
    if [[ "$cur" == -* ]]; then
        found=("${(@f)$(${words[1,CURRENT-1]} "$cur" --generate-bash-completion 2>/dev/null)}")
    else
        found=("${(@f)$(${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
    fi
    compadd -a found
    _files
}
if [ "$funcstack[1]" = "_PROGRAM" ]; then _PROGRAM "$@"; else compdef _PROGRAM PROGRAM; fi
`

// Completion is the command that prints a shell's completion script.
func Completion(program string) *urfave.Command {
	return &urfave.Command{
		Name:      "completion",
		Usage:     "print the completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Prints a script that completes commands, options and, from the running qned,
ids. For this shell:  source <(` + program + ` completion bash)`,
		Action: func(c *urfave.Context) error {
			args, err := Args(c, 1, 1, "shell: bash, zsh or fish")
			if err != nil {
				return err
			}
			var script string
			switch args[0] {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				if script, err = c.App.ToFishCompletion(); err != nil {
					return fmt.Errorf("fish completion: %w", err)
				}
			default:
				return Usagef("%s: %q is not bash, zsh or fish", c.Command.HelpName, args[0])
			}
			_, err = fmt.Fprint(c.App.Writer, strings.ReplaceAll(script, "PROGRAM", program))
			return err
		},
	}
}

// CompleteWith completes arguments with what list returns, and options as
// usual. Errors complete nothing.
func CompleteWith(list func(c *urfave.Context) ([]string, error)) urfave.BashCompleteFunc {
	return func(c *urfave.Context) {
		if len(os.Args) > 2 && strings.HasPrefix(os.Args[len(os.Args)-2], "-") {
			urfave.DefaultCompleteWithFlags(c.Command)(c)
			return
		}
		words, err := list(c)
		if err != nil {
			return
		}
		for _, w := range words {
			_, _ = fmt.Fprintln(c.App.Writer, w)
		}
	}
}
