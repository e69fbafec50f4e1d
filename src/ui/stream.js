// One completion: the request, the stream of its answer, and what became of it.

let running = null; // the AbortController of the completion under way
let again = null; // what "Try again" does

function keyHeader() {
  const key = recall('sessionStorage', 'key');
  return key ? {Authorization: 'Bearer ' + key} : {};
}

// The body as text: a seed may have more digits than a number of JavaScript keeps.
function requestBody(fields) {
  return '{' + fields.map(([name, value]) => JSON.stringify(name) + ':' + value).join(',') + '}';
}

// The data of the events of a stream, whole ones only.
async function* eventsOf(response) {
  const reader = response.body.getReader();
  const utf8 = new TextDecoder();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    rest += utf8.decode(value, {stream: true});
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
      if (data.length) yield data.join('\n');
    }
  }
}

function showProblem(problem) {
  $('problem').dataset.kind = problem ? problem.kind : '';
  again = problem && problem.again || null;
  write('problem-title', problem ? problem.title : '');
  write('problem-text', problem ? problem.text : '');
  show('again', Boolean(again));
  show('problem', Boolean(problem));
}

function askKey() {
  const refused = recall('sessionStorage', 'key') !== null;
  remember('sessionStorage', 'key', null);
  show('forget', false);
  write('key-hint', refused ? 'The worker did not accept that key. Another one is kept for this tab only.' : 'It is kept for this tab only and sent to this worker alone.');
  show('key-form', true);
  showCode();
}

const GONE = {kind: 'gone', title: 'The worker does not answer.', text: 'Has it been stopped? This page keeps asking and says when it is back.'};

// What a refusal means, in words; the worker's own ones where they say more.
function problemOf(status, message, param) {
  const said = message.replace(/^(Invalid request|Worker unhealthy|Internal error): /, '');
  if (status === 401) return {kind: 'key', title: 'An API key is needed.', text: 'Enter it above.'};
  if (status === 503 || status === 429) return {kind: 'busy', title: 'The worker takes nothing now:', text: said + '. Try again in a moment.'};
  if (status === 404) return {kind: 'other', title: 'The worker does not know this:', text: said};
  if (status >= 500) return {kind: 'other', title: 'The worker failed:', text: said};
  return {kind: 'field', title: 'The worker refuses ' + (param && FIELDS[param] ? FIELDS[param].label.toLowerCase() : 'the request') + ':', text: said};
}

async function refused(response) {
  let message = 'status ' + response.status + ' without a reason';
  let param = null;
  try {
    const body = await response.json();
    const error = body.error || body;
    const said = error.message || (body.errors || []).map((e) => e.message).join('; ');
    if (said && typeof said === 'string') message = said;
    param = error.param || null;
  } catch (error) { // a page of a proxy
    param = null;
  }
  if (response.status === 401) askKey();
  if (param && $(param + '-wrong')) complain(param, message);
  return problemOf(response.status, message, param);
}

// Adds what one chunk brings to the output and to the counts.
function takeChunk(chunk, counts) {
  const choice = chunk.choices && chunk.choices[0];
  if (chunk.usage) counts.usage = chunk.usage;
  if (!choice) return;
  const logprobs = choice.logprobs;
  const words = logprobs && logprobs.tokens || (choice.text ? [choice.text] : []);
  const now = performance.now();
  words.forEach((word, i) => {
    const best = logprobs && logprobs.top_logprobs && logprobs.top_logprobs[i] || {};
    addToken(word, logprobs ? logprobs.token_logprobs[i] : null, Object.entries(best));
  });
  if (words.length && !counts.first) counts.first = now;
  if (words.length) counts.last = now;
  counts.tokens += words.length;
  if (choice.text) addText(choice.text);
  if (choice.finish_reason) counts.finish = choice.finish_reason;
}

function speedOf(counts) {
  return counts.tokens > 1 && counts.last > counts.first ? (counts.tokens - 1) * 1000 / (counts.last - counts.first) : 0;
}

function countsText(counts) {
  const parts = [whole.format(counts.tokens) + (counts.tokens === 1 ? ' token' : ' tokens')];
  if (counts.usage) parts[0] += ' after a prompt of ' + whole.format(counts.usage.prompt_tokens);
  if (counts.first) parts.push('first after ' + Math.max(1, Math.round(counts.first - counts.begin)) + ' ms');
  if (speedOf(counts)) parts.push(speedText(speedOf(counts)));
  return parts.join(' · ');
}

function endText(counts) {
  const ends = {length: 'ended by the limit of tokens', stop: 'ended by the model or a stop string', stopped: 'stopped by you',
    cut: 'the connection was cut, the text so far is kept', failed: 'not finished, the text so far is kept'};
  return countsText(counts) + ' · ' + (ends[counts.finish] || counts.finish);
}

function brokenOff(counts) {
  counts.finish = 'cut';
  if (counts.tokens) return {kind: 'cut', title: 'The connection was cut in the middle.', text: 'The text so far is kept; Continue goes on from there.'};
  return {kind: 'other', title: 'The answer broke off before its first token.', text: 'It may have come from something between this page and the worker.'};
}

// Reads the whole stream; returns a problem or null.
async function receive(response, counts) {
  for await (const data of eventsOf(response)) {
    if (data === '[DONE]') return null;
    const chunk = JSON.parse(data);
    if (chunk.error) {
      counts.finish = 'failed';
      return problemOf(500, chunk.error.message || 'no reason was given', null);
    }
    takeChunk(chunk, counts);
    write('summary', countsText(counts));
  }
  return brokenOff(counts);
}

function problemOfFailure(counts, controller) {
  if (controller.signal.aborted) {
    counts.finish = 'stopped';
    return null;
  }
  return counts.answered ? brokenOff(counts) : GONE;
}

function showRunning(controller) {
  const hadFocus = document.activeElement;
  running = controller;
  show('generate', !controller);
  show('keys-generate', !controller);
  show('stop', Boolean(controller));
  show('keys-stop', Boolean(controller));
  if (controller && hadFocus === $('generate')) $('stop').focus();
  if (!controller && hadFocus === $('stop')) $('generate').focus();
  $('output').classList.toggle('writing', Boolean(controller));
  $('output').setAttribute('aria-busy', controller ? 'true' : 'false');
  show('after', !controller && tokens.length > 0);
  if (!$('why').hidden && !$('why').contains(document.activeElement)) fillWhy(current); // its buttons work or not
}

function beginOutput(prompt) {
  clearOutput(prompt);
  $('output').classList.remove('old');
  show('empty', false);
  show('output', true);
  if ($('output').getBoundingClientRect().bottom > innerHeight) $('output').scrollIntoView({block: 'center'});
}

// Sends the new prompt, or without one that of before and what is shown after it, and appends what comes. What is shown makes way
// for a new prompt when the worker has taken it, not before: a refusal must not cost a text.
async function complete(settings, prompt) {
  const controller = new AbortController();
  const counts = {tokens: 0, begin: performance.now(), first: 0, last: 0, finish: 'failed', usage: null, answered: false};
  const fresh = prompt !== undefined;
  const before = $('summary').textContent;
  const fields = [...codeFields(fresh ? prompt : given + text, settings), ['stream', 'true'], ['stream_options', '{"include_usage":true}'], ['logprobs', String(LIKELIEST)]];
  let problem;
  if (!fresh) settleOutput();
  $('output').classList.toggle('old', fresh);
  showProblem(null);
  showRunning(controller);
  write('summary', 'Waiting for the first token');
  $('say').textContent = 'Generating';
  try {
    const response = await fetch(BASE + 'v1/completions', {method: 'POST', body: requestBody(fields), signal: controller.signal, cache: 'no-store',
      headers: {'Content-Type': 'application/json', ...keyHeader()}});
    counts.answered = true;
    if (response.ok && fresh) beginOutput(prompt);
    problem = response.ok ? await receive(response, counts) : await refused(response);
  } catch (error) {
    problem = problemOfFailure(counts, controller);
  }
  controller.abort(); // a stream that made no sense may still go on
  $('output').classList.remove('old');
  draw();
  lastSpeed = speedOf(counts) || lastSpeed;
  showRunning(null);
  const ended = counts.tokens || (!problem && (counts.answered || !tokens.length));
  write('summary', ended ? endText(counts) : tokens.length ? before : '');
  $('say').textContent = $('summary').textContent;
  if (problem) showProblem({...problem, again: ['key', 'field', 'cut'].includes(problem.kind) ? null : () => complete(settings, counts.tokens ? undefined : prompt)});
  show('output', Boolean(tokens.length || text));
  show('empty', !tokens.length && !text);
  askHealth();
}

function generate() {
  if (running) return;
  const prompt = $('prompt').value;
  const settings = addStop() ? readSettings() : null;
  complain('prompt', prompt === '' ? 'Write a prompt first' : '');
  if (prompt === '') $('prompt').focus();
  if (prompt === '' || !settings) return;
  hideWhy();
  complete(settings, prompt);
}

function goOn() {
  const settings = !running && addStop() ? readSettings() : null;
  if (settings) complete(settings);
}

// The text up to that token, then the other one, then whatever the model makes of it.
function takeAlternative(i, word, logprob) {
  const settings = readSettings();
  if (running || !settings) return;
  const {best} = tokens[i];
  draw();
  cutOutput(i);
  addToken(word, logprob, best, true);
  text += word;
  draw();
  $('generate').focus();
  complete(settings);
}

function stopRunning() {
  if (running) running.abort();
}

function startStream() {
  $('prompt').value = recall('sessionStorage', 'prompt') || '';
  $('prompt').addEventListener('input', () => {
    remember('sessionStorage', 'prompt', $('prompt').value);
    complain('prompt', '');
    showCode();
  });
  $('form').addEventListener('submit', (event) => {
    event.preventDefault();
    generate();
  });
  $('stop').addEventListener('click', stopRunning);
  $('continue').addEventListener('click', goOn);
  $('again').addEventListener('click', () => again && again());
  $('copy-text').addEventListener('click', () => copy(given + text, $('copy-text')));
  $('clear').addEventListener('click', () => {
    clearOutput('');
    showRunning(null);
    showProblem(null);
    write('summary', '');
    show('output', false);
    show('empty', true);
    $('prompt').focus();
  });
  $('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const key = $('key').value.trim();
    if (!/^[!-~]*$/.test(key)) write('key-hint', 'No key of a worker has blanks or letters beyond ASCII.');
    if (!/^[!-~]+$/.test(key)) return;
    remember('sessionStorage', 'key', key);
    $('key').value = '';
    show('key-form', false);
    show('forget', true);
    if ($('problem').dataset.kind === 'key') showProblem(null);
    showCode();
    workerCame();
    $('prompt').focus();
  });
  $('forget').addEventListener('click', () => {
    remember('sessionStorage', 'key', null);
    askKey();
    $('key').focus();
  });
  show('forget', recall('sessionStorage', 'key') !== null);
}
