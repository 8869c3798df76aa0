package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// bashWords stands in for the package bash-completion where it is not installed: bash takes words apart at = and :, and what belongs
// together is put together again. The names of the variables are those of the script that cobra writes, which declares them.
const bashWords = `
if ! declare -F _get_comp_words_by_ref >/dev/null; then
__scoria_init_completion()
{
    COMPREPLY=() words=()
    local i word line=${COMP_LINE}
    for i in "${!COMP_WORDS[@]}"; do
        word=${COMP_WORDS[i]}
        if [[ ${#words[@]} -gt 0 && ${line} != [[:space:]]* ]]; then
            words[${#words[@]}-1]+=${word}
        else
            words+=("${word}")
        fi
        [[ -z ${word} ]] || line=${line#*"${word}"}
        [[ ${i} -ne ${COMP_CWORD} ]] || cword=$((${#words[@]}-1))
    done
    cur=${words[cword]}
    prev=${words[cword-1]}
}
fi
`

// completion adds the commands that print scripts for shells.
func completion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	bash, _, err := root.Find([]string{"completion", "bash"})
	if err != nil {
		panic(err) // cobra has none any more
	}
	refuseOthers(bash.Parent())
	bash.Long = `Print the script that lets bash complete the commands of scoria, the IDs that there are, and values.

In this shell:
	source <(scoria completion bash)

In every new one:
	scoria completion bash > /etc/bash_completion.d/scoria     with Debian's package bash-completion
	echo 'source <(scoria completion bash)' >> ~/.bashrc       without it`
	script := bash.RunE
	bash.RunE = func(cmd *cobra.Command, args []string) error {
		if err := script(cmd, args); err != nil {
			return err
		}
		_, err := io.WriteString(cmd.OutOrStdout(), bashWords)
		return err
	}
}
