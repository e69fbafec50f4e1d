/* cli/commands.c: the table of the sub-commands, apart from what they share, so that another
 * program can use that without them.
 *
 * May include: common. */
#include "cli/cli.h"

const CliCommand *cli_commands(void)
{
    static const CliCommand commands[] = {
        {"serve", "answer HTTP requests (flags alone mean this)", cli_serve},
        {"generate", "continue a text on standard output", cli_generate},
        {"explain", "show what the model had to choose from, token by token", cli_explain},
        {"tokenize", "turn text into token ids, and back", cli_tokenize},
        {"capture", "write every intermediate tensor as .npy", cli_capture},
        {"verify", "compare the model with recorded references", cli_verify},
        {"eval", "perplexity of a text, and how far two models are apart", cli_eval},
        {"diff", "compare two tensors, or two folders of them", cli_diff},
        {"info", "describe a model and the memory it needs", cli_info},
        {"quantize", "write a model as GGUF with smaller weights", cli_quantize},
        {"pack", "write a model as a file that is served at once", cli_pack},
        {"bench", "measure this machine's speed next to what it can do", cli_bench},
        {"profile", "show where the time and the memory of a request go", cli_profile},
        {"pull", "download a model from the Hugging Face hub", cli_pull},
        {NULL, NULL, NULL}};

    return commands;
}
