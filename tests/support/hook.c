/* A library that checks permissions, as pgaudit and sepgsql do: nobody may update wallets. */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "utils/lsyscache.h"

PG_MODULE_MAGIC;

void _PG_init(void);

#if PG_VERSION_NUM < 160000
#define RTEPermissionInfo RangeTblEntry
static bool check(List *tables, bool raise)
{
    List *permissions = tables;
#else
static bool check(List *tables, List *permissions, bool raise)
{
#endif
    ListCell *cell;

    foreach(cell, permissions)
    {
        RTEPermissionInfo *table = lfirst(cell);
        char *name = OidIsValid(table->relid) ? get_rel_name(table->relid) : NULL;

        if ((table->requiredPerms & ACL_UPDATE) && name && strcmp(name, "wallets") == 0)
            elog(ERROR, "not by this library");
    }
    return true;
}

void _PG_init(void)
{
    ExecutorCheckPerms_hook = check;
}
