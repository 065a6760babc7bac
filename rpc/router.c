#include "internal.h"

#include "base/mem.h"
#include <string.h>

struct dp_router {
    dp_table handlers; /* action -> dp_rpc_handler */
};

int dp_router_new(dp_router **out)
{
    dp_router *router = dp_calloc(1, sizeof(*router));
    if (router == NULL)
        return DP_ERR_NO_MEMORY;
    dp_table_init(&router->handlers, (uintptr_t)router);
    *out = router;
    return DP_OK;
}

void dp_router_free(dp_router *router)
{
    if (router == NULL)
        return;
    size_t at = 0;
    for (void *handler; (handler = dp_table_next(&router->handlers, &at)) != NULL;)
        dp_free(handler);
    dp_table_clear(&router->handlers);
    dp_free(router);
}

int dp_router_register(dp_router *router, const char *action, dp_action_fn fn, void *user)
{
    if (action == NULL || fn == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_rpc_handler *handler = dp_alloc(sizeof(*handler));
    if (handler == NULL)
        return DP_ERR_NO_MEMORY;
    *handler = (dp_rpc_handler){fn, user};
    void *old;
    int error = dp_table_set(&router->handlers, action, strlen(action), handler, &old);
    dp_free(error == DP_OK ? old : handler);
    return error;
}

int dp_router_unregister(dp_router *router, const char *action)
{
    void *handler = dp_table_remove(&router->handlers, action, strlen(action));
    if (handler == NULL)
        return DP_ERR_NOT_FOUND;
    dp_free(handler);
    return DP_OK;
}

const dp_rpc_handler *dp_router_find(const dp_router *router, const char *action, size_t len)
{
    return router == NULL ? NULL : dp_table_get(&router->handlers, action, len);
}
