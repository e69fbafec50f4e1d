// The generated text, token by token. A token's bytes are decoded in a row, so that each knows which characters end in it;
// what is shown is always cut from the text that the worker sent, never put together anew.

const LIKELIEST = 5; // so many are asked for; the worker adds the token itself where it is not among them
const STEPS = [0.01, 0.05, 0.2, 0.5, 0.9]; // classes p0 (below the first) to p5

// A byte order mark is a character like others, wherever it stands.
const newDecoder = () => new TextDecoder('utf-8', {ignoreBOM: true});

let given = ''; // the prompt of what is shown
let text = ''; // all that the worker has sent after it
let tokens = []; // {word, logprob, best: [[word, logprob]], node, from, to, picked}
let decoder = newDecoder();
let reach = 0; // characters of text that the tokens so far stand for
let drawn = 0; // tokens before this one are drawn whole
let drawing = 0;
let current = -1; // the token whose alternatives are shown, or were last
let pinned = false; // by a key or a tap; else the panel goes with the pointer
let hoverTimer = 0;
let closing = false;

// "bytes:\xe2\x80" is what OpenAI's logprobs call a token that is no whole character.
function wordBytes(word) {
  const hex = /^bytes:((?:\\x[0-9a-f]{2})+)$/i.exec(word);
  return hex ? Uint8Array.from(hex[1].slice(2).split('\\x'), (h) => parseInt(h, 16)) : new TextEncoder().encode(word);
}

const isPart = (word) => /^bytes:\\x/.test(word);

// Blanks and what has no width are drawn as signs, in soft: [[text, is a sign]].
function wordSigns(word) {
  if (isPart(word)) return [[word.slice(6).replaceAll('\\x', ' ').trim(), true]];
  if (word === '') return [['nothing', true]];
  const signs = {' ': '␣', '\n': '↵', '\t': '⇥'};
  const pieces = word.match(/[ \n\t]|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0\ufeff]|[^ \n\t\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0\ufeff]+/gu) || [];
  return pieces.map((piece) => {
    if (signs[piece]) return [signs[piece], true];
    return /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0\ufeff]$/u.test(piece) ? ['U+' + piece.codePointAt(0).toString(16).toUpperCase().padStart(4, '0'), true] : [piece, false];
  });
}

function wordNode(word) {
  const node = make('span', 'word');
  for (const [sign, soft] of wordSigns(word)) node.append(soft ? make('span', 'vis', sign) : sign);
  return node;
}

function wordSpoken(word) {
  const names = {'␣': 'space ', '↵': 'line break ', '⇥': 'tab '};
  return wordSigns(word).map(([sign]) => names[sign] || sign).join('').trim();
}

function clearOutput(prompt) {
  given = prompt;
  text = '';
  tokens = [];
  decoder = newDecoder();
  reach = drawn = 0;
  current = -1;
  hideWhy();
  $('output').replaceChildren(make('span', 'given', prompt));
}

function addToken(word, logprob, best, picked) {
  const piece = decoder.decode(wordBytes(word), {stream: true});
  const node = make('span', 't');
  node.dataset.i = tokens.length;
  node.tabIndex = tokens.length ? -1 : 0;
  if (typeof logprob === 'number') node.classList.add('p' + STEPS.filter((step) => Math.exp(logprob) >= step).length);
  if (picked) node.classList.add('picked');
  tokens.push({word, logprob, best, node, from: reach, to: reach + piece.length, picked});
  reach += piece.length;
  $('output').append(node);
  drawSoon();
}

function addText(piece) {
  text += piece;
  drawSoon();
}

function drawSoon() {
  if (!drawing) drawing = requestAnimationFrame(draw);
}

// The empty elements before line breaks carry a sign that is neither selected nor copied.
function drawToken(token, shown) {
  const parts = shown.split('\n');
  token.node.replaceChildren(parts[0]);
  for (const part of parts.slice(1)) token.node.append(make('i', 'nl'), '\n' + part);
  token.node.classList.toggle('hid', !/[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|\n/u.test(shown));
}

// Tokens whose text is held back by the worker (it may be the beginning of a stop string) stay empty until it comes.
function draw() {
  cancelAnimationFrame(drawing);
  drawing = 0;
  show('legend', $('shade').checked && tokens.length > 0);
  const last = tokens.length - 1;
  for (let i = drawn; i <= last; i++) {
    const token = tokens[i];
    const shown = text.slice(token.from, i === last ? undefined : token.to);
    token.node.hidden = token.from > text.length || (token.from === text.length && token.to > token.from);
    drawToken(token, shown);
    if (i === drawn && i < last && token.to <= text.length) drawn++;
  }
}

// Forgets the token at this place and all after it.
function cutOutput(i) {
  hideWhy();
  for (const token of tokens.slice(i)) token.node.remove();
  text = text.slice(0, tokens[i].from);
  tokens = tokens.slice(0, i);
  drawn = Math.min(drawn, i);
  reach = text.length;
  decoder = newDecoder();
  for (const token of tokens.slice(-4)) decoder.decode(wordBytes(token.word), {stream: true});
}

// Before more is asked for: what stands for text that was not sent (of a stop string, an end of text, a stop in the middle of a
// character) goes, and the next token begins where the text ends.
function settleOutput() {
  if (tokens.length && tokens.at(-1).to > text.length) hideWhy();
  while (tokens.length && tokens.at(-1).to > text.length && tokens.at(-1).from >= text.length) tokens.pop().node.remove();
  if (tokens.length) tokens.at(-1).to = text.length;
  drawn = Math.min(drawn, tokens.length);
  reach = text.length;
  decoder = newDecoder();
}

// --- the panel with the alternatives ---

function candidates(token) {
  const all = token.best.slice();
  if (!all.some(([word]) => word === token.word)) all.push([token.word, token.logprob]);
  return all.sort((a, b) => b[1] - a[1]);
}

function candidateNode(token, i, [word, logprob]) {
  const own = word === token.word;
  const node = make(own ? 'div' : 'button', own ? 'same' : '');
  const bar = make('span', 'bar');
  bar.style.width = Math.exp(logprob) * 100 + '%';
  node.append(bar, wordNode(word), make('span', '', shareText(Math.exp(logprob))));
  if (own) return node;
  node.type = 'button';
  node.disabled = isPart(word) || Boolean(running);
  node.title = isPart(word) ? 'Part of a character: cannot be put into a prompt' : 'Go on from here with this token instead';
  node.addEventListener('click', () => takeAlternative(i, word, logprob));
  return node;
}

function fillWhy(i) {
  const token = tokens[i];
  const title = make('h3');
  const why = $('why');
  title.append(wordNode(token.word));
  if (typeof token.logprob !== 'number') {
    why.replaceChildren(title, make('p', '', 'No probabilities came with this token.'));
    return;
  }
  const all = candidates(token);
  const rest = 1 - all.reduce((sum, [, logprob]) => sum + Math.exp(logprob), 0);
  const rank = all.findIndex(([word]) => word === token.word);
  const known = rank < LIKELIEST ? 'number ' + (rank + 1) + ' of the likeliest' : 'not among the likeliest ' + LIKELIEST;
  title.append(make('span', '', shareText(Math.exp(token.logprob))));
  why.replaceChildren(title, make('p', '', 'Token ' + (i + 1) + ', ' + (token.picked ? 'chosen by you' : known) + (isPart(token.word) ? '; part of a character' : '')),
    ...all.map((candidate) => candidateNode(token, i, candidate)));
  if (rest > 0.00005) why.append(make('p', 'rest', 'all others ' + shareText(rest)));
}

// Below the token when there is room in the window, else above it; never beyond the card.
function placeWhy(i) {
  const why = $('why');
  const card = why.parentElement.getBoundingClientRect();
  const boxes = tokens[i].node.getClientRects();
  const box = boxes[0] || tokens[i].node.getBoundingClientRect();
  const last = boxes[boxes.length - 1] || box;
  const left = Math.min(Math.max(8, box.left - card.left - 8), card.width - why.offsetWidth - 10);
  const below = last.bottom + why.offsetHeight + 12 < innerHeight || box.top - why.offsetHeight < 12;
  why.style.left = Math.max(4, left) + 'px';
  why.style.top = (below ? last.bottom - card.top + 6 : box.top - card.top - why.offsetHeight - 8) + 'px';
}

function showWhy(i, pin) {
  clearTimeout(hoverTimer);
  for (const node of $('output').querySelectorAll('.on, [tabindex="0"]')) {
    node.classList.remove('on');
    node.tabIndex = -1;
  }
  current = i;
  pinned = pin;
  tokens[i].node.tabIndex = 0;
  tokens[i].node.classList.add('on');
  fillWhy(i);
  show('why', true);
  placeWhy(i);
}

function hideWhy() {
  clearTimeout(hoverTimer);
  pinned = false;
  if (tokens[current]) tokens[current].node.classList.remove('on');
  show('why', false);
}

function sayToken(i) {
  const {word, logprob, best} = tokens[i];
  if (typeof logprob !== 'number') return;
  const others = best.filter(([other]) => other !== word).map(([other, p]) => wordSpoken(other) + ' ' + shareText(Math.exp(p)));
  $('say').textContent = wordSpoken(word) + ', ' + shareText(Math.exp(logprob)) + '. Alternatives: ' + others.join(', ');
}

function focusToken(i) {
  if (!tokens[i]) return;
  showWhy(i, true);
  tokens[i].node.focus({preventScroll: true});
  tokens[i].node.scrollIntoView({block: 'nearest'});
  sayToken(i);
}

// Without the panel that a token opens when it gets the focus.
function returnFocus(node) {
  closing = true;
  node.focus();
  closing = false;
}

// The next token that is on the page, in steps of one.
function nextToken(i, step) {
  while (tokens[i] && tokens[i].node.hidden) i += step;
  return i;
}

function onTokenKey(event) {
  const i = event.target.dataset.i === undefined ? -1 : Number(event.target.dataset.i);
  const places = {ArrowRight: nextToken(i + 1, 1), ArrowLeft: nextToken(i - 1, -1), Home: nextToken(0, 1), End: nextToken(tokens.length - 1, -1)};
  if (i < 0 || event.ctrlKey || event.metaKey || event.altKey || !$('shade').checked) return;
  if (event.key in places) focusToken(places[event.key]);
  else if (event.key === 'Enter' || event.key === ' ') focusToken(i);
  else if (event.key === 'ArrowDown' && !$('why').hidden) {
    const first = $('why').querySelector('button:enabled');
    if (first) first.focus();
  } else return;
  event.preventDefault();
}

function onWhyKey(event) {
  const buttons = [...$('why').querySelectorAll('button:enabled')];
  const at = buttons.indexOf(document.activeElement);
  if (event.key === 'ArrowDown' && buttons[at + 1]) buttons[at + 1].focus();
  else if (event.key === 'ArrowUp') (buttons[at - 1] || tokens[current].node).focus();
  else return;
  event.preventDefault();
}

function tokenOf(event) {
  const node = $('shade').checked && event.target.closest('.t');
  return node ? Number(node.dataset.i) : -1;
}

function startTokens() {
  const output = $('output');
  output.addEventListener('pointerover', (event) => {
    const i = tokenOf(event);
    clearTimeout(hoverTimer);
    if (i < 0 || pinned || event.pointerType === 'touch' || event.buttons) return;
    hoverTimer = setTimeout(() => tokens[i] && showWhy(i, false), 60);
  });
  for (const node of [output, $('why')])
    node.addEventListener('pointerleave', () => {
      clearTimeout(hoverTimer);
      if (!pinned) hoverTimer = setTimeout(hideWhy, 250);
    });
  $('why').addEventListener('pointerenter', () => clearTimeout(hoverTimer));
  output.addEventListener('click', (event) => {
    const i = tokenOf(event);
    if (i >= 0 && getSelection().isCollapsed) focusToken(i);
  });
  output.addEventListener('focusin', (event) => {
    if (!closing && tokenOf(event) >= 0 && event.target.matches(':focus-visible') && $('why').hidden) focusToken(tokenOf(event));
  });
  output.addEventListener('keydown', onTokenKey);
  $('why').addEventListener('keydown', onWhyKey);
  document.addEventListener('pointerdown', (event) => {
    if (!event.target.closest('.t, .why')) hideWhy();
  });
  addEventListener('resize', hideWhy);
  $('shade').checked = recall('localStorage', 'shade') !== 'off';
  $('shade').addEventListener('change', () => {
    remember('localStorage', 'shade', $('shade').checked ? 'on' : 'off');
    showShade();
  });
  showShade();
}

function showShade() {
  hideWhy();
  $('output').classList.toggle('shaded', $('shade').checked);
  show('legend', $('shade').checked && tokens.length > 0);
}
