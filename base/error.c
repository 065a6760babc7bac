#include <datapeer/base.h>

const char *dp_strerror(int error)
{
    switch (error) {
    case DP_OK:
        return "success";
    case DP_ERR_NO_MEMORY:
        return "out of memory";
    case DP_ERR_INVALID_ARGUMENT:
        return "invalid argument";
    case DP_ERR_INVALID_STATE:
        return "not possible in this state";
    case DP_ERR_WOULD_BLOCK:
        return "would block, try again later";
    case DP_ERR_MALFORMED:
        return "malformed input";
    case DP_ERR_TRUNCATED:
        return "input ends too early";
    case DP_ERR_NO_SPACE:
        return "output buffer too small";
    case DP_ERR_TOO_LARGE:
        return "too large";
    case DP_ERR_LIMIT:
        return "limit reached";
    case DP_ERR_UNSUPPORTED:
        return "not supported";
    case DP_ERR_NOT_FOUND:
        return "not found";
    case DP_ERR_EXISTS:
        return "exists already";
    case DP_ERR_TIMEOUT:
        return "timed out";
    case DP_ERR_CLOSED:
        return "connection closed";
    case DP_ERR_CANCELLED:
        return "cancelled";
    case DP_ERR_PROTOCOL:
        return "protocol violated by the peer";
    case DP_ERR_AUTH:
        return "authentication failed";
    case DP_ERR_FINGERPRINT:
        return "certificate fingerprint does not match";
    case DP_ERR_CRYPTO:
        return "cryptographic library failed";
    case DP_ERR_DENIED:
        return "permission denied";
    case DP_ERR_IO:
        return "input/output error";
    case DP_ERR_REMOTE:
        return "the peer answered with an error";
    default:
        return "unknown error";
    }
}
