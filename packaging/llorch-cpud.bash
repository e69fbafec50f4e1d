# bash completion for llorch-cpud. Needs nothing but bash 4; the bash-completion package loads it when it is installed as
# PREFIX/share/bash-completion/completions/llorch-cpud, without that package: source this file.

# Every option of every sub-command with the kind of its value, "-" for none; a line "COMMAND KIND" says what operands are.
# tests/http/test_install.py holds this table to what --help says.
_llorch_cpud_table='serve --worker-id text
serve --model model
serve --port text
serve --host host
serve --unix-mode text
serve --api-key-file file
serve --callback-url text
serve --callback-minimal -
serve --callback-retries text
serve --uri text
serve --model-name text
serve --max-context text
serve --queue text
serve --inference-timeout-sec text
serve --defer-headers -
serve --enable-shutdown -
serve --no-ui -
serve --isa isa
serve --type type
serve --kv-type kv_type
serve --no-prefix-cache -
serve --cpu cpu
serve --mlock -
serve --core-dumps -
serve --log-level log_level
serve --version -
serve --help -
generate --model model
generate --prompt text
generate --ids text
generate --max-tokens text
generate --temperature text
generate --top-k text
generate --top-p text
generate --min-p text
generate --repetition-penalty text
generate --seed text
generate --stop text
generate --max-context text
generate --isa isa
generate --type type
generate --kv-type kv_type
generate --cpu cpu
generate --json -
generate --help -
explain --model model
explain --prompt text
explain --prompt-ids text
explain --prompt-tokens -
explain --tokens text
explain --top text
explain --temperature text
explain --top-k text
explain --top-p text
explain --min-p text
explain --repetition-penalty text
explain --seed text
explain --isa isa
explain --type type
explain --kv-type kv_type
explain --json -
explain --help -
tokenize --model model
tokenize --jsonl -
tokenize --decode -
tokenize --allow-special -
tokenize --help -
capture --model model
capture --prompt text
capture --ids text
capture --out folder
capture --isa isa
capture --help -
verify --model model
verify --reference reference
verify --determinism -
verify --seed text
verify --prompt text
verify --prompt-ids text
verify --expect expect
verify --stats -
verify --save file
verify --compare file
verify --max-growth text
verify --json -
verify --html file
verify --isa isa
verify --help -
eval --model model
eval --text file
eval --context text
eval --stride text
eval --bos -
eval --limit text
eval --type type
eval --kv-type kv_type
eval --against model
eval --against-type type
eval --isa isa
eval --json -
eval --help -
diff file
diff --tolerance text
diff --bits -
diff --worst text
diff --json -
diff --html file
diff --help -
info --model model
info --context text
info --json -
info --help -
quantize --model model
quantize --type type
quantize --embedding-type type
quantize --out file
quantize --help -
pack --model model
pack --type type
pack --embedding-type type
pack --out file
pack --help -
bench --model model
bench --shape shape
bench --type type
bench --kv-type kv_type
bench --cases cases
bench --rounds text
bench --isa isa
bench --cpu cpu
bench --save file
bench --compare file
bench --max-slowdown text
bench --json -
bench --help -
profile --model model
profile --prompt text
profile --prompt-ids text
profile --tokens text
profile --temperature text
profile --top-k text
profile --top-p text
profile --min-p text
profile --repetition-penalty text
profile --seed text
profile --isa isa
profile --type type
profile --kv-type kv_type
profile --cpu cpu
profile --layers -
profile --cost text
profile --json -
profile --html file
profile --trace file
profile --help -
pull hub
pull --revision text
pull --file text
pull --cache-dir folder
pull --force -
pull --retries text
pull --quiet -
pull --help -'

# The fixed values of a kind.
_llorch_cpud_values()
{
    case $1 in
    isa) echo scalar avx2 ;;
    type) echo f32 f16 bf16 q8_0 q4_0 ;;
    kv_type) echo f32 f16 ;;
    log_level) echo debug info warn error off ;;
    expect) echo gpt2 gpt2-medium ;;
    shape) echo gpt2 gpt2-medium gpt2-large gpt2-xl ;;
    cases) echo decode step cache batch prompt load memory ;;
    esac
}

# Names as --model takes them, of the models in the Hugging Face cache.
_llorch_cpud_hub()
{
    local hub=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub}} folder name

    for folder in "$hub"/models--*; do
        [[ -d $folder/snapshots ]] || continue
        name=${folder##*/models--}
        [[ $name != *[!A-Za-z0-9._-]* ]] || continue # compgen would expand it
        printf '%s\n' "${name/--//}"
    done
}

# The candidates for a word of this kind that begins with $2, one a line.
_llorch_cpud_candidates()
{
    local kind=$1 word=$2 done item path

    case $kind in
    file) compgen -f -- "$word" ;;
    folder) compgen -d -- "$word" ;;
    model)
        compgen -f -- "$word"
        compgen -W "$(_llorch_cpud_hub)" -- "$word"
        ;;
    hub) compgen -W "$(_llorch_cpud_hub)" -- "$word" ;;
    reference)
        compgen -d -- "$word"
        compgen -W self -- "$word"
        ;;
    host)
        case $word in
        unix:*) compgen -P unix: -f -- "${word#unix:}" ;;
        *) compgen -W "127.0.0.1 0.0.0.0 :: ::1 localhost unix:" -- "$word" ;;
        esac
        ;;
    cpu)
        for path in /sys/devices/system/cpu/cpu[0-9]*; do
            item=${path##*/cpu}
            [[ $item == "$word"* ]] && printf '%s\n' "$item"
        done
        ;;
    cases) # a list: its last item
        done=${word%"${word##*,}"}
        compgen -P "$done" -W "$(_llorch_cpud_values "$kind")" -- "${word##*,}"
        ;;
    *) compgen -W "$(_llorch_cpud_values "$kind")" -- "$word" ;;
    esac
}

_llorch_cpud()
{
    # Words as the user sees them: readline cuts at "=" and ":", too.
    local line=() rest=$COMP_LINE i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ $i -gt 0 && -n $rest && $rest != [[:blank:]]* ]]; then
            line[${#line[@]} - 1]+=${COMP_WORDS[i]}
        else
            line+=("${COMP_WORDS[i]}")
        fi
        rest=${rest#"${rest%%[![:blank:]]*}"}
        rest=${rest#"${COMP_WORDS[i]}"}
    done

    local n=${#line[@]} command=serve name option kind
    local word=${line[n - 1]} previous=${line[n - 2]}
    local value="" attached="" options="" commands="" operand=""
    [[ $n -gt 2 && ${line[1]} != -* ]] && command=${line[1]}
    while read -r name option kind; do
        [[ " $commands " == *" $name "* ]] || commands+=" $name"
        [[ $name == "$command" ]] || continue
        if [[ -z $kind ]]; then
            operand=$option
        else
            options+=" $option"
            [[ $kind != - && $option == "$previous" ]] && value=$kind
            [[ $kind != - && $word == "$option="* ]] && value=$kind attached=$option=
        fi
    done <<<"$_llorch_cpud_table"

    local begun=${word#"$attached"} found=()
    begun=${begun#[\"\']}
    begun=${begun//\\/}
    if [[ -z $value && $begun != -* && -n $operand ]]; then
        value=$operand
    fi
    if [[ -n $value ]]; then
        mapfile -t found < <(_llorch_cpud_candidates "$value" "$begun")
    elif [[ $n -le 2 && $begun != -* ]]; then
        mapfile -t found < <(compgen -W "$commands --help --version" -- "$begun")
    else
        mapfile -t found < <(compgen -W "$options" -- "$begun")
    fi

    # Readline replaces only what follows the last "=" or ":" that it cut at.
    local part=${COMP_WORDS[COMP_CWORD]}
    [[ $part == [=:]* ]] && part=""
    local before=${word%"$part"}
    COMPREPLY=()
    for option in "${found[@]}"; do
        option=$attached$option
        COMPREPLY+=("${option#"$before"}")
    done

    # Outside of a completion, in a test, there is nothing to set.
    case $value in
    file | folder | model | reference) compopt -o filenames 2>/dev/null ;; # quoted, a slash behind folders
    host) [[ $begun == unix:* ]] && compopt -o filenames 2>/dev/null || compopt -o nospace 2>/dev/null ;;
    cases) compopt -o nospace 2>/dev/null ;;
    esac
    return 0
}

complete -F _llorch_cpud llorch-cpud
