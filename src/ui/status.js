// What the worker says of itself, asked once a second, less often while nobody looks.

const ASK_MS = 1000;
const ASK_HIDDEN_MS = 10000;
const ANSWER_MS = 4000;
let health = null; // the last answer; null: none, or the worker is gone
let lastSpeed = 0; // of our own generations
let askTimer = 0;

async function getJson(path) {
  const response = await fetch(BASE + path, {cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS)});
  return response.json();
}

function queueText() {
  return health.jobs_waiting ? health.jobs_waiting + ' of ' + health.queue_limit + ' waiting' : 'empty';
}

function stateText(progress) {
  switch (health.state) {
    case 'starting':
      return 'Loading the model' + (progress === null ? '' : ', ' + Math.floor(progress * 100) + ' %');
    case 'ready':
      return 'Ready';
    case 'busy':
      return health.jobs_waiting ? 'Busy, ' + health.jobs_waiting + ' waiting' : 'Busy';
    case 'draining':
      return 'Shutting down';
    default:
      return String(health.state);
  }
}

// Said aloud unless it is only the change between ready and busy that every job makes.
function showState(state, text) {
  const usual = ['asking', 'ready', 'busy'];
  const before = $('state').dataset.state;
  if (state !== before && !(usual.includes(state) && usual.includes(before))) $('say').textContent = text;
  $('state').dataset.state = state;
  write('state-text', text);
}

function showHealth(progress) {
  const number = (value) => typeof value === 'number' ? whole.format(value) : '–';
  const speed = health.tokens_per_sec || lastSpeed;
  document.title = health.model + ' · llorch-cpud';
  showState(health.state, stateText(progress));
  show('progress', health.state === 'starting');
  $('progress').value = progress || 0;
  write('model', String(health.model));
  write('fact-type', health.quant_kind || '–');
  write('fact-context', health.context_length ? number(health.context_length) + ' tokens' : '–');
  write('fact-vocabulary', health.vocab_size ? number(health.vocab_size) + ' tokens' : '–');
  write('fact-memory', health.memory_bytes ? bytesText(health.memory_bytes) : '–');
  write('fact-uptime', timeText(health.uptime_seconds));
  write('fact-worker', String(health.worker_id));
  show('fingerprint', Boolean(health.weights_hash));
  write('fact-fingerprint', health.weights_hash || '');
  write('fact-queue', queueText());
  write('fact-speed', speed ? speedText(speed) : '–');
}

function showGone() {
  showState('gone', 'Not reachable');
  show('progress', false);
  write('fact-queue', '–');
  write('fact-speed', '–');
  write('fact-uptime', '–');
}

async function askHealth() {
  clearTimeout(askTimer);
  const before = health;
  try {
    const answer = await getJson('health');
    if (typeof answer.state !== 'string') throw answer; // of a proxy that has no worker to ask
    const progress = answer.state === 'starting' ? (await getJson('ready')).progress : null;
    health = answer;
    showHealth(progress === undefined ? null : progress);
    if (!before || before.model !== answer.model) showCode();
    if (!before) workerCame();
  } catch (error) {
    health = null;
    showGone();
  }
  clearTimeout(askTimer);
  askTimer = setTimeout(askHealth, document.hidden ? ASK_HIDDEN_MS : ASK_MS);
}

// A worker that wants a key says so before somebody has written a prompt for nothing.
async function workerCame() {
  if ($('problem').dataset.kind === 'gone') showProblem(null);
  try {
    const response = await fetch(BASE + 'v1/models', {headers: keyHeader(), cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS)});
    if (response.status === 401) askKey();
    else if (response.ok) show('key-form', false);
  } catch (error) {
    return;
  }
}

function startStatus() {
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) askHealth();
  });
  askHealth();
}
