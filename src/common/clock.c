/* common/clock.c: the clocks. All of it may be called from a signal handler.
 *
 * May include: nothing. */
#include "common/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

static uint64_t read_ns(clockid_t clock)
{
    struct timespec t = {0, 0};

    /* Cannot fail: both clocks exist on every system this builds on, and t is valid. */
    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t clock_now_ms(void)
{
    return clock_now_ns() / 1000000u;
}

int64_t clock_unix_sec(void)
{
    return (int64_t)time(NULL);
}

enum { SECONDS_A_DAY = 86400, DAYS_IN_400_YEARS = 146097, FIRST_YEAR = 1970, LAST_YEAR = 9999 };

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* value as n digits at the end of out. */
static void put_digits(char *out, int64_t value, size_t n)
{
    for (; n > 0; value /= 10)
        out[--n] = (char)('0' + value % 10);
}

void clock_format_utc(char out[CLOCK_ISO_BYTES], int64_t seconds)
{
    static const char month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t days = seconds / SECONDS_A_DAY, year, month, in_month;
    const int64_t in_day = seconds % SECONDS_A_DAY;

    memcpy(out, "0000-00-00T00:00:00Z", sizeof "0000-00-00T00:00:00Z");
    /* A wall clock set before 1970 or beyond the year 9999 has no text of this form. */
    if (seconds < 0 || days / DAYS_IN_400_YEARS > (LAST_YEAR - FIRST_YEAR) / 400)
        return;
    year = FIRST_YEAR + days / DAYS_IN_400_YEARS * 400;
    days %= DAYS_IN_400_YEARS;
    for (; days >= 365 + is_leap(year); year++)
        days -= 365 + is_leap(year);
    for (month = 0; days >= (in_month = month_days[month] + (month == 1 && is_leap(year))); month++)
        days -= in_month;
    if (year > LAST_YEAR)
        return;
    put_digits(out, year, 4);
    put_digits(out + 5, month + 1, 2);
    put_digits(out + 8, days + 1, 2);
    put_digits(out + 11, in_day / 3600, 2);
    put_digits(out + 14, in_day / 60 % 60, 2);
    put_digits(out + 17, in_day % 60, 2);
}

void clock_iso_utc(char out[CLOCK_ISO_BYTES])
{
    clock_format_utc(out, (int64_t)time(NULL));
}
