/* common/error.h: the one error type. What can fail returns ErrCode and fills an Err; outputs stay
 * untouched.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_ERROR_H
#define LLORCH_COMMON_ERROR_H

typedef enum {
    ERR_OK = 0,
    ERR_USAGE,       /* bad or missing argument of the command line: exit 2 */
    ERR_IO,          /* the operating system refused: open, read, map, bind, write */
    ERR_FORMAT,      /* a file or message does not hold what its format demands */
    ERR_UNSUPPORTED, /* well-formed, but not something this program computes */
    ERR_LIMIT,       /* larger than a documented limit */
    ERR_MEMORY,      /* out of memory */
    ERR_NUMERIC,     /* NaN or infinity where a number is needed */
    ERR_CANCELLED,   /* the yield hook asked to stop */
    ERR_NETWORK,     /* the peer of an outgoing connection failed */
    ERR_INTERNAL     /* a state this program should not have reached */
} ErrCode;

/* With the name of the program in front and a line feed behind it, a message is a line of at most
 * 512 bytes. */
enum { ERR_MSG_BYTES = 499 };

typedef struct {
    ErrCode code;            /* ERR_OK until something fails */
    char msg[ERR_MSG_BYTES]; /* one line of valid UTF-8 without control characters */
} Err;

#define ERR_CHECK __attribute__((warn_unused_result))

/* Fills err with code and the formatted message and returns code. Control characters and invalid
 * UTF-8 of the formatted text are escaped (\n, \x1b); a message that is too long is shortened in
 * the middle. err may be NULL. */
ErrCode err_set(Err *err, ErrCode code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<formatted text>: " in front of err's message and returns err's code. */
ErrCode err_prefix(Err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
