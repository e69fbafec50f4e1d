// tests/npm/openai/client.js: the official client against running workers; started by tests/http/test_openai_client.py.
//
// usage: node client.js PACKAGE-FOLDER REAL STUB KEYS LOADING     (base addresses; KEYS wants the key "secret-of-the-test-1")
// Prints one JSON object a line: {"name":..,"error":..}.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const [, , folder, real, stub, keys, loading] = process.argv;
const Client = require(path.join(folder, "node_modules", "openai")).OpenAI;

const client = (base, options) => new Client({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0, ...options });
const model = "shakespeare";
const cases = [];
const test = (name, body) => cases.push([name, body]);

const state = async (base) => (await (await fetch(base + "/health")).json()).state;

async function untilState(base, wanted) {
  const begin = performance.now();
  while ((await state(base)) !== wanted) {
    assert.ok(performance.now() - begin < 20000, `state ${wanted} not reached`);
  }
  return performance.now() - begin;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("503 is tried again until the model is there", async () => {
  const error = await failure(client(loading).completions.create({ prompt: "x" }));
  assert.equal(error.status, 503);
  assert.equal(error.code, "service_unavailable");
  const answer = await client(loading, { maxRetries: 5 }).completions.create({ prompt: "x" });
  assert.equal(answer.choices[0].text, "STUBRESPONSE");
});

test("completes a prompt", async () => {
  const answer = await client(real).completions.create({ model, prompt: "ROMEO:", max_tokens: 8, temperature: 0 });
  assert.equal(answer.object, "text_completion");
  assert.match(answer.id, /^cmpl-/);
  assert.equal(answer.choices[0].text, "\nI'll tell you, sir,");
  assert.equal(answer.choices[0].finish_reason, "length");
  assert.equal(answer.usage.completion_tokens, 8);
  assert.equal(answer._request_id, answer.id.slice(5));
});

test("completes lists of prompts and token ids", async () => {
  const fields = { model, max_tokens: 4, temperature: 0 };
  const texts = await client(real).completions.create({ ...fields, prompt: ["ROMEO:", "To be"] });
  const ids = [];
  for (const content of ["ROMEO:", "To be"]) {
    const answer = await fetch(real + "/tokenize", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ content }) });
    ids.push((await answer.json()).tokens);
  }
  const tokens = await client(real).completions.create({ ...fields, prompt: ids });
  assert.deepEqual(tokens.choices, texts.choices);
  assert.deepEqual(texts.choices.map((c) => c.index), [0, 1]);
});

test("gives n of best_of choices with logprobs", async () => {
  const answer = await client(real).completions.create({
    model, prompt: "JULIET:", max_tokens: 5, n: 2, best_of: 4, logprobs: 3, echo: true, seed: 1 });
  assert.equal(answer.choices.length, 2);
  for (const { text, logprobs } of answer.choices) {
    assert.ok(text.startsWith("JULIET:"));
    assert.equal(logprobs.token_logprobs[0], null);
    assert.equal(logprobs.tokens.join(""), text);
    assert.ok(Object.keys(logprobs.top_logprobs.at(-1)).length >= 3);
    assert.equal(logprobs.text_offset[0], 0);
  }
});

test("streams the text of a whole answer, with usage", async () => {
  const fields = { model, prompt: "JULIET:\nO", max_tokens: 20, temperature: 0.7, seed: 4, logprobs: 1 };
  const whole = await client(real).completions.create(fields);
  const chunks = [];
  const stream = await client(real).completions.create({ ...fields, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, whole.usage.total_tokens);
  assert.equal(chunks.map((c) => c.choices[0].text).join(""), whole.choices[0].text);
  assert.deepEqual(chunks.flatMap((c) => c.choices[0].logprobs?.token_logprobs ?? []), whole.choices[0].logprobs.token_logprobs);
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
  assert.equal(chunks[0].usage, null);
});

test("lists and retrieves models", async () => {
  const names = [];
  for await (const entry of client(real).models.list()) names.push(entry.id);
  assert.deepEqual(names, [model]);
  assert.equal((await client(real).models.retrieve(model)).owned_by, "llorch-cpud");
  const error = await failure(client(real).models.retrieve("org/gpt-4"));
  assert.ok(error instanceof Client.NotFoundError);
  assert.equal(error.code, "model_not_found");
});

test("throws BadRequestError with type, param and code", async () => {
  const error = await failure(client(real).completions.create({ model, prompt: "x", temperature: 3 }));
  assert.ok(error instanceof Client.BadRequestError, error.constructor.name);
  assert.equal(error.status, 400);
  assert.equal(error.type, "invalid_request_error");
  assert.equal(error.param, "temperature");
  assert.equal(error.code, "decimal_above_max_value");
  assert.match(error.message, /Expected a value <= 2/);
  assert.ok(error.requestID);
  const long = await failure(client(real).completions.create({ model, prompt: new Array(300).fill(5) }));
  assert.equal(long.code, "context_length_exceeded");
});

test("throws NotFoundError for another model and another path", async () => {
  const other = await failure(client(real).completions.create({ model: "gpt-4", prompt: "x" }));
  assert.ok(other instanceof Client.NotFoundError);
  assert.equal(other.code, "model_not_found");
  const chat = await failure(client(real).chat.completions.create({ model, messages: [{ role: "user", content: "x" }] }));
  assert.ok(chat instanceof Client.NotFoundError);
  assert.equal(chat.code, "unknown_url");
  assert.ok(chat.requestID);
});

test("throws AuthenticationError without the key, and works with it", async () => {
  const error = await failure(client(keys, { apiKey: "wrong" }).completions.create({ model: "m", prompt: "x" }));
  assert.ok(error instanceof Client.AuthenticationError);
  assert.equal(error.code, "invalid_api_key");
  assert.ok(error.requestID);
  const names = [];
  for await (const entry of client(keys, { apiKey: "secret-of-the-test-1" }).models.list()) names.push(entry.id);
  assert.equal(names.length, 1);
});

test("throws InternalServerError for a failed computation", async () => {
  const error = await failure(client(stub).completions.create({ model: stubModel, prompt: "tokens=2 fail=numeric" }));
  assert.ok(error instanceof Client.InternalServerError);
  assert.equal(error.type, "server_error");
});

test("throws what breaks a stream", async () => {
  const stream = await client(stub).completions.create({
    model: stubModel, prompt: "tokens=2 fail=numeric", max_tokens: 5, stream: true });
  const texts = [];
  const error = await failure((async () => {
    for await (const chunk of stream) texts.push(chunk.choices[0].text);
  })());
  assert.deepEqual(texts, ["STUB", "RESPONSE"]);
  assert.ok(error instanceof Client.APIError);
  assert.equal(error.type, "server_error");
});

test("a stream that is aborted frees the worker", async () => {
  const stream = await client(stub).completions.create({
    model: stubModel, prompt: "tokens=2000 delay=5", max_tokens: 2000, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.choices[0].text);
    break;
  }
  stream.controller.abort();
  const ms = await untilState(stub, "ready");
  assert.ok(ms < limit, `the worker was free after ${ms} ms`);
});

test("a request that is aborted frees the worker", async () => {
  const controller = new AbortController();
  const pending = failure(client(stub).completions.create(
    { model: stubModel, prompt: "tokens=2000 delay=5", max_tokens: 2000 }, { signal: controller.signal }));
  await untilState(stub, "busy");
  controller.abort();
  const ms = await untilState(stub, "ready");
  assert.ok((await pending) instanceof Client.APIUserAbortError);
  assert.ok(ms < limit, `the worker was free after ${ms} ms`);
});

test("a request that times out at the client frees the worker", async () => {
  const error = await failure(client(stub, { timeout: 200 }).completions.create(
    { model: stubModel, prompt: "tokens=2000 delay=5", max_tokens: 2000 }));
  assert.ok(error instanceof Client.APIConnectionTimeoutError, error.constructor.name);
  const ms = await untilState(stub, "ready");
  assert.ok(ms < limit, `the worker was free after ${ms} ms`);
});

const limit = 100 * Number(process.env.LLORCH_TEST_SLOW ?? "1");
let stubModel;

async function main() {
  for await (const entry of client(stub).models.list()) stubModel = entry.id;
  for (const [name, body] of cases) {
    let error = null;
    try {
      await body();
    } catch (thrown) {
      error = String(thrown.stack ?? thrown);
    }
    console.log(JSON.stringify({ name, error }));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
