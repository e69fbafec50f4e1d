/* cli/verify_keep.c: see verify_keep.h.
 *
 * May include: common, checkpoint, model, report. */
#include "cli/verify_keep.h"

#include "checkpoint/model_hash.h"
#include "cli/cli.h"
#include "cli/process.h"
#include "common/json.h"
#include "report/output.h"

ErrCode verify_keep_begin(VerifyKeep *keep, Gpt2 *m, Err *err)
{
    ErrCode code = ERR_OK;

    if (keep->compare != NULL)
        code = verify_baseline_read(&keep->baseline, keep->compare, err);
    if (code == ERR_OK && (keep->compare != NULL || keep->save != NULL))
        code = model_hash_weights(m, &keep->weights, err);
    if (code == ERR_OK && keep->compare != NULL)
        code = verify_baseline_check(&keep->baseline, m->name, m->types, keep->weights, err);
    return code;
}

ErrCode verify_keep_compare(VerifyKeep *keep, const VerifyResult *r, Err *err)
{
    if (keep->compare == NULL)
        return ERR_OK;
    return verify_baseline_compare(&keep->compared, &keep->baseline, r, keep->max_growth, err);
}

ErrCode verify_keep_save(const VerifyKeep *keep, const VerifyResult *r, const VerifyMeta *meta,
                         Err *err)
{
    char cpu_name[PROCESS_CPU_NAME_BYTES];
    const VerifyMachine machine = {
        .cpu_name = cpu_name, .flags = cli_build_flags(), .weights = keep->weights};
    JsonBuf out = {0};

    if (keep->save == NULL)
        return ERR_OK;
    process_cpu_name(cpu_name);
    verify_baseline_json(&out, r, meta, &machine);
    const ErrCode code = report_write(keep->save, &out, err);
    json_buf_free(&out);
    return code;
}

void verify_keep_free(VerifyKeep *keep)
{
    verify_comparison_free(&keep->compared);
    verify_baseline_free(&keep->baseline);
}
