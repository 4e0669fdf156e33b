import { ask, post } from './sending.js';
import { wanted } from './wanted.js';

// The pictures that are wanted

const form = document.querySelector('#wanted');
const showLines = form ? wanted(form, document.querySelector('#lines')) : () => {};

// How far reviewers agree, which takes a while the first time

const reviewers = document.querySelector('#reviewers');
if (reviewers) fetch(reviewers.dataset.url).then(async (answer) => { if (answer.ok) reviewers.innerHTML = await answer.text(); });

// The run

const run = document.querySelector('#run');
let done = 0;

function showRun(state) {
  run.innerHTML = state.html;
  if (state.done !== done || !state.runs) showLines();
  done = state.done;
  if (state.runs) setTimeout(follow, 1000);
}

async function follow() {
  try {
    showRun(await ask(`${run.dataset.url}/run`));
  } catch {
    setTimeout(follow, 5000); // the app may be back by then
  }
}

run.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-post]');
  if (!button) return;
  button.disabled = true;
  const running = run.querySelector('progress');
  try {
    const state = await post(`${run.dataset.url}/${button.dataset.post}`);
    if (!running) showRun(state); // else the page follows it already
  } catch (error) {
    run.insertAdjacentText('beforeend', error.message);
    button.disabled = false;
  }
});
if (run.querySelector('progress')) follow();

// Pictures to add, one after the other, so that one that is refused does not keep the others out

const drop = document.querySelector('#drop');
const KINDS = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif)$/i;

async function promptsOf(files) {
  const listed = files.find((file) => file.name === 'metadata.jsonl');
  const lines = listed ? (await listed.text()).split('\n').filter((line) => line.trim()) : [];
  return new Map(lines.map((line) => JSON.parse(line)).map((row) => [row.file_name, row.text ?? '']));
}

function tell(text) {
  const line = document.createElement('li');
  line.textContent = text;
  document.querySelector('#told').append(line);
}

async function add(files) {
  const pictures = files.filter((file) => KINDS.test(file.name) || file.type.startsWith('image/'));
  const adding = document.querySelector('#adding');
  document.querySelector('#told').replaceChildren();
  if (!pictures.length) return tell('There is no picture among these files.');
  let prompts;
  try {
    prompts = await promptsOf(files);
  } catch {
    return tell('metadata.jsonl needs a JSON object with file_name on each line. Mend it, or leave it out.');
  }
  const prompt = document.querySelector('#given-prompt').value;
  let kept = 0;
  for (const [number, file] of pictures.entries()) {
    adding.textContent = `Adding ${number + 1} of ${pictures.length}: ${file.name}`;
    const query = new URLSearchParams({ name: file.name, prompt: prompts.get(file.name) ?? prompt });
    try {
      const said = await ask(`${drop.dataset.url}?${query}`, { method: 'POST', body: file });
      kept += said.kept;
      if (said.told) tell(said.told);
    } catch (error) {
      tell(`${file.name}: ${error.message}`);
    }
  }
  adding.textContent = `${kept} of ${pictures.length} added.`;
  if (!kept) return;
  if (document.querySelector('#told').children.length) {
    const again = Object.assign(document.createElement('a'), { href: location.pathname, textContent: ' Show them' });
    adding.append(again);
  } else location.reload();
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some.filter((one) => one.isFile));
  }
  return (await Promise.all(found.map(filesIn))).flat();
}

drop.addEventListener('dragover', (event) => {
  event.preventDefault();
  drop.classList.add('fi-over-drop');
});
drop.addEventListener('dragleave', () => drop.classList.remove('fi-over-drop'));
drop.addEventListener('drop', async (event) => {
  event.preventDefault();
  drop.classList.remove('fi-over-drop');
  const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry()).filter(Boolean);
  add((await Promise.all(entries.map(filesIn))).flat());
});
for (const chosen of drop.querySelectorAll('input[type=file]')) {
  const take = () => {
    const files = [...chosen.files].filter((file) => (file.webkitRelativePath.match(/\//g) ?? []).length < 2);
    chosen.value = '';
    if (files.length) add(files);
  };
  chosen.addEventListener('change', take);
  take(); // what was chosen before this script was here
}
