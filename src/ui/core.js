'use strict';
// What the parts of the page share. Text from the worker or the user becomes text nodes only, never markup.

// Where the worker is: a proxy may have put it below a path of its own.
const BASE = new URL('.', location.href).href;

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function show(id, visible) {
  $(id).hidden = !visible;
}

// Writes only what has changed: live regions speak, and selections vanish, with every write.
function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// Storage may be switched off or full; the page then forgets, and works. A proxy may have several workers below paths of one
// origin, and the key of one is not for the others.
const STORED = 'llorch-' + new URL(BASE).pathname;

function recall(storage, name) {
  try {
    return window[storage].getItem(STORED + name);
  } catch (error) {
    return null;
  }
}

function remember(storage, name, value) {
  try {
    if (value === null) window[storage].removeItem(STORED + name);
    else window[storage].setItem(STORED + name, value);
  } catch (error) {
    return;
  }
}

const whole = new Intl.NumberFormat('en');

function bytesText(n) {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 999.5 && unit < 4) {
    n /= 1000;
    unit++;
  }
  return (unit && n < 99.5 ? n.toFixed(1) : Math.round(n)) + ' ' + units[unit];
}

function timeText(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min']];
  const found = units.findIndex(([size]) => seconds >= size);
  if (found < 0) return Math.floor(seconds) + ' s';
  const [size, name] = units[found];
  const [next, nextName] = units[found + 1] || [1, 's'];
  return Math.floor(seconds / size) + ' ' + name + ' ' + Math.floor(seconds % size / next) + ' ' + nextName;
}

function shareText(p) {
  const percent = p * 100;
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  return percent.toFixed(percent >= 99.995 ? 0 : percent >= 10 ? 1 : 2) + ' %';
}

function speedText(rate) {
  return (rate < 99.5 ? rate.toFixed(1) : whole.format(Math.round(rate))) + ' tokens/s';
}

async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) { // not on plain http beyond this machine: the old way
    const area = make('textarea', '', text);
    document.body.append(area);
    area.select();
    done = document.execCommand('copy');
    area.remove();
    button.focus();
  }
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  button.textContent = done ? 'Copied' : 'Not copied';
  $('say').textContent = done ? 'Copied' : 'The browser did not allow copying';
  clearTimeout(button.timer);
  button.timer = setTimeout(() => { button.textContent = label; }, 1500);
}
