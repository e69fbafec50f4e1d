#!/usr/bin/env python3
"""Sends one prompt to a running worker and prints the text as its events arrive.

usage: tools/sse_print.py PORT PROMPT [MAX_TOKENS [TEMPERATURE [SEED]]]
       tools/sse_print.py PORT --wait SECONDS       waits until GET /ready answers 200

The worker is on this machine (127.0.0.1). Exit status 1, with one line on standard error, when anything goes wrong.
"""
import http.client
import json
import sys
import time


class Failure(Exception):
    pass


def wait_until_ready(port, seconds):
    """Asks /ready every 50 ms; the last answer is the reason when it never becomes 200."""
    last = "no answer"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            body = answer.read().decode("utf-8", "replace")
            if answer.status == 200:
                return
            last = "status %d, %s" % (answer.status, body)
        except (OSError, http.client.HTTPException) as error:
            last = str(error) or type(error).__name__
        finally:
            connection.close()
        time.sleep(0.05)
    raise Failure("not ready after %d s: %s" % (seconds, last))


def events(answer):
    """The data of each event, parsed; comment and event: lines carry nothing the data lacks."""
    for line in answer:
        if line.startswith(b"data:"):
            yield json.loads(line[len(b"data:"):])


def stream(port, request):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    start = time.monotonic()
    connection.request("POST", "/execute", json.dumps(request), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise Failure("POST /execute: status %d, %s" % (answer.status, answer.read().decode("utf-8", "replace")))
    first = None
    for event in events(answer):
        if event["type"] == "token":
            first = first or time.monotonic() - start
            sys.stdout.write(event["t"])
            sys.stdout.flush()
        elif event["type"] == "error":
            raise Failure("%s: %s" % (event["code"], event["message"]))
        elif event["type"] == "end":
            return event, first or 0.0, time.monotonic() - start
    raise Failure("the stream ended without an end event")


def main(arguments):
    if len(arguments) < 2 or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than the model
    port = int(arguments[0])
    if arguments[1] == "--wait":
        wait_until_ready(port, float(arguments[2]))
        return 0
    defaults = ["", "100", "0.8", "42"]
    prompt, max_tokens, temperature, seed = arguments[1:5] + defaults[len(arguments[1:5]):]
    request = {"job_id": "sse-print", "prompt": prompt, "max_tokens": int(max_tokens),
               "temperature": float(temperature), "seed": int(seed)}
    sys.stdout.write(prompt)
    sys.stdout.flush()
    end, first, total = stream(port, request)
    print("\n\n[%d tokens, %s; first after %.0f ms, all after %.2f s]"
          % (end["tokens_out"], end["stop_reason"], 1000 * first, total))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError, ValueError, KeyError, http.client.HTTPException) as problem:
        print("\nsse_print: %s" % (problem or type(problem).__name__), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
