// The request as a command or a program: what is copied sends exactly what is set. Keys are never written into it.

let language = 'curl';
let goodSettings = []; // as they were before something wrong was typed

// The fields that stand for the form; values as JSON has them.
function codeFields(prompt, settings) {
  const fields = [['prompt', JSON.stringify(prompt)], ...settings];
  return health && health.model ? [['model', JSON.stringify(health.model)], ...fields] : fields;
}

const shellQuote = (value) => /^[\w.:/-]+$/.test(value) ? value : "'" + value.replaceAll("'", "'\\''") + "'";

function curlCode(fields, hasKey) {
  return 'curl ' + shellQuote(BASE + 'v1/completions') + ' \\\n' +
    "  -H 'Content-Type: application/json' \\\n" +
    (hasKey ? '  -H "Authorization: Bearer $LLORCH_API_KEY" \\\n' : '') +
    '  -d ' + shellQuote(requestBody(fields));
}

// JSON strings, numbers and lists are Python's as well. What OpenAI's API does not have goes into extra_body.
function pythonCode(fields, hasKey) {
  const extra = fields.filter(([name]) => name === 'top_k' || name === 'min_p');
  const own = fields.filter((field) => !extra.includes(field)).map(([name, value]) => '    ' + name + '=' + value + ',\n').join('');
  return (hasKey ? 'import os\n\n' : '') + 'from openai import OpenAI\n\n' +
    'client = OpenAI(base_url=' + JSON.stringify(BASE + 'v1') + ', api_key=' + (hasKey ? 'os.environ["LLORCH_API_KEY"]' : '"none"') + ')\n' +
    'stream = client.completions.create(\n' + own +
    (extra.length ? '    extra_body={' + extra.map(([name, value]) => JSON.stringify(name) + ': ' + value).join(', ') + '},\n' : '') +
    '    stream=True,\n)\n' +
    'for chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].text, end="", flush=True)\n';
}

// A seed beyond 2^53 would lose digits as a number, so the body is then written out as text.
function javascriptBody(fields) {
  const seed = fields.find(([name]) => name === 'seed');
  if (seed && BigInt(seed[1]) > BigInt(Number.MAX_SAFE_INTEGER)) return JSON.stringify(requestBody(fields));
  return 'JSON.stringify({\n' + fields.map(([name, value]) => '    ' + name + ': ' + value + ',\n').join('') + '  })';
}

function javascriptCode(fields, hasKey) {
  return 'const response = await fetch(' + JSON.stringify(BASE + 'v1/completions') + ', {\n  method: "POST",\n' +
    '  headers: {"Content-Type": "application/json"' + (hasKey ? ', Authorization: `Bearer ${process.env.LLORCH_API_KEY}`' : '') + '},\n' +
    '  body: ' + javascriptBody(fields) + ',\n});\n' +
    'const answer = await response.json();\n' +
    'if (!response.ok) throw new Error(answer.error.message);\n' +
    'console.log(answer.choices[0].text);\n';
}

// What is wrong in a field is said there; the code keeps the last good settings.
function showCode() {
  const {fields, wrong} = listSettings();
  const hasKey = recall('sessionStorage', 'key') !== null || !$('key-form').hidden;
  const makers = {curl: curlCode, python: pythonCode, javascript: javascriptCode};
  if (!wrong) goodSettings = fields;
  write('code', makers[language](codeFields($('prompt').value, goodSettings), hasKey));
  write('code-hint', hasKey ? 'Put the key into the environment variable LLORCH_API_KEY first.' : language === 'python' ? 'Needs the package openai.' : '');
}

function pickLanguage(name) {
  language = name;
  for (const tab of document.querySelectorAll('[role=tab]')) {
    const on = tab.id === 'tab-' + name;
    tab.setAttribute('aria-selected', String(on));
    tab.tabIndex = on ? 0 : -1;
  }
  $('code').setAttribute('aria-labelledby', 'tab-' + name);
  remember('localStorage', 'language', name);
  showCode();
}

function startCode() {
  const names = ['curl', 'python', 'javascript'];
  const saved = recall('localStorage', 'language');
  for (const [i, name] of names.entries()) {
    const tab = $('tab-' + name);
    tab.addEventListener('click', () => pickLanguage(name));
    tab.addEventListener('keydown', (event) => {
      const step = {ArrowRight: 1, ArrowLeft: 2}[event.key];
      if (!step) return;
      const next = names[(i + step) % 3];
      event.preventDefault();
      pickLanguage(next);
      $('tab-' + next).focus();
    });
  }
  $('copy-code').addEventListener('click', () => copy($('code').textContent, $('copy-code')));
  pickLanguage(names.includes(saved) ? saved : 'curl');
}
