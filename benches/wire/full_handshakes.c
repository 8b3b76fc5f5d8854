/* Preloaded into wrk, which would resume its sessions: it uses a connection's SSL object again
 * for the next connection, and with it the session and the ticket. Without them every handshake
 * is a full one. How many there were of each kind is written to stderr at the end, for
 * `Load::drive` to judge. wrk is told to use a single thread, so nothing is locked.
 *
 * The two functions' declarations are OpenSSL's, so that its headers need not be installed. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

typedef struct ssl_st SSL;
typedef struct ssl_session_st SSL_SESSION;
int SSL_session_reused(const SSL *ssl);
int SSL_set_session(SSL *ssl, SSL_SESSION *session);

static unsigned long full, resumed;

/* OpenSSL's own function of that name. */
static int call_next(const char *name, SSL *ssl)
{
    int (*next)(SSL *) = (int (*)(SSL *))dlsym(RTLD_NEXT, name);
    return next(ssl);
}

/* Called again and again until the handshake is complete: then it returns 1, once. */
int SSL_connect(SSL *ssl)
{
    int result = call_next("SSL_connect", ssl);
    if (result == 1)
        ++*(SSL_session_reused(ssl) ? &resumed : &full);
    return result;
}

/* The last call before the SSL object is made ready for the next connection. */
int SSL_shutdown(SSL *ssl)
{
    int result = call_next("SSL_shutdown", ssl);
    SSL_set_session(ssl, NULL);
    return result;
}

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "handshakes: %lu %lu\n", full, resumed);
}
