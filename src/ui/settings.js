// The fields of a request: their limits are the worker's (docs/contract.md), so that a wrong one is named here already.

const MAX_SEED = 2n ** 64n - 1n;
const FIELDS = {
  max_tokens: {label: 'Tokens at most', initial: '100', min: 1, max: 2048, whole: true},
  temperature: {label: 'Temperature', initial: '0.8', min: 0, max: 2},
  top_k: {label: 'Top-k', initial: '0', min: 0, max: 4294967295, whole: true, off: '0'},
  top_p: {label: 'Top-p', initial: '1', min: 0, max: 1, off: '1'},
  min_p: {label: 'Min-p', initial: '0', min: 0, max: 1, off: '0'},
  seed: {label: 'Seed', initial: '42', whole: true, max: MAX_SEED},
};
const MAX_STOPS = 4;
let stops = [];

// Invisible characters as they are typed: \n, \t, \\, \u200b.
function escapeText(text) {
  return text.replace(/[\\\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) =>
    ({'\\': '\\\\', '\n': '\\n', '\t': '\\t', '\r': '\\r'})[c] || '\\u' + c.codePointAt(0).toString(16).padStart(4, '0'));
}

function unescapeText(text) {
  return text.replace(/\\(n|t|r|\\|u[0-9a-fA-F]{4})/g, (all, c) =>
    ({n: '\n', t: '\t', r: '\r', '\\': '\\'})[c] || String.fromCharCode(parseInt(c.slice(1), 16)));
}

// {text: as JSON has it} or {error}.
function readField(name) {
  const field = FIELDS[name];
  const text = $(name).value.trim();
  const limits = field.label + ': ' + (field.whole ? 'a whole number' : 'a number') + ' from ' + (field.min || 0) + ' to ' + field.max;
  if (field.whole) {
    if (!/^\d{1,20}$/.test(text) || BigInt(text) > BigInt(field.max) || BigInt(text) < BigInt(field.min || 0)) return {error: limits};
    return {text: BigInt(text).toString()};
  }
  const value = Number(text);
  if (text === '' || !(value >= field.min && value <= field.max)) return {error: limits};
  return {text: String(value)};
}

function complain(name, message) {
  const input = $(name === 'stop' ? 'stop-text' : name);
  write(name + '-wrong', message || '');
  show(name + '-wrong', Boolean(message));
  if (message) input.setAttribute('aria-invalid', 'true');
  else input.removeAttribute('aria-invalid');
}

// All fields of the form as [name, JSON text], and the name of the first wrong one. What is off is left out.
function listSettings() {
  let wrong = null;
  const fields = [];
  for (const name of Object.keys(FIELDS)) {
    const {text, error} = readField(name);
    complain(name, error);
    if (error) wrong = wrong || name;
    else if (text !== FIELDS[name].off) fields.push([name, text]);
  }
  if (stops.length) fields.push(['stop', JSON.stringify(stops)]);
  return {fields, wrong};
}

// Null, with the first wrong field focused, when one is wrong.
function readSettings() {
  const {fields, wrong} = listSettings();
  if (!wrong) return fields;
  $('settings').open = true;
  $(wrong).focus();
  return null;
}

function saveSettings() {
  const values = {stops};
  for (const name of Object.keys(FIELDS)) values[name] = $(name).value;
  remember('localStorage', 'settings', JSON.stringify(values));
}

function syncSlider(name) {
  const slider = document.querySelector('[data-for=' + name + ']');
  const {error} = readField(name);
  complain(name, error);
  if (slider && !error) slider.value = $(name).value;
}

function showStops() {
  $('stops').replaceChildren(...stops.map((text, i) => {
    const button = make('button', '', escapeText(text));
    const item = make('li');
    button.type = 'button';
    button.setAttribute('aria-label', 'Remove the stop string ' + escapeText(text));
    button.addEventListener('click', () => {
      stops = stops.filter((other, j) => j !== i);
      settingsChanged();
      showStops();
      $('stop-text').focus();
    });
    item.append(button);
    return item;
  }));
}

function addStop() {
  const text = unescapeText($('stop-text').value);
  if (text === '') return true;
  if (stops.length >= MAX_STOPS) complain('stop', 'At most ' + MAX_STOPS + ' stop strings');
  else if ([...text].length > 100) complain('stop', 'A stop string has at most 100 characters');
  else {
    if (!stops.includes(text)) stops = [...stops, text];
    $('stop-text').value = '';
    complain('stop', '');
    settingsChanged();
    showStops();
    return true;
  }
  return false;
}

function fillSettings(values) {
  for (const name of Object.keys(FIELDS)) {
    $(name).value = typeof values[name] === 'string' ? values[name] : FIELDS[name].initial;
    if (readField(name).error) $(name).value = FIELDS[name].initial;
    syncSlider(name);
  }
  stops = Array.isArray(values.stops) ? values.stops.filter((s) => typeof s === 'string').slice(0, MAX_STOPS) : [];
  showStops();
}

function settingsChanged() {
  saveSettings();
  showCode();
}

function startSettings() {
  let saved = {};
  try {
    saved = JSON.parse(recall('localStorage', 'settings')) || {};
  } catch (error) {
    saved = {};
  }
  fillSettings(saved);
  for (const name of Object.keys(FIELDS))
    $(name).addEventListener('input', () => {
      syncSlider(name);
      settingsChanged();
    });
  for (const slider of document.querySelectorAll('[type=range]'))
    slider.addEventListener('input', () => {
      $(slider.dataset.for).value = slider.value;
      complain(slider.dataset.for, '');
      settingsChanged();
    });
  $('dice').addEventListener('click', () => {
    $('seed').value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    complain('seed', '');
    settingsChanged();
    $('say').textContent = 'Seed ' + $('seed').value;
  });
  $('stop-add').addEventListener('click', addStop);
  $('stop-text').addEventListener('input', () => complain('stop', ''));
  $('stop-text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.ctrlKey || event.metaKey || event.isComposing) return;
    event.preventDefault();
    addStop();
  });
  $('reset').addEventListener('click', () => {
    fillSettings({});
    settingsChanged();
  });
  $('settings').open = !matchMedia('(max-width:56rem)').matches;
}
