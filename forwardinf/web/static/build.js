import { ask, post } from './sending.js';

const form = document.querySelector('#new-build');
const builds = document.querySelector('#builds');
const told = document.querySelector('#told');
const EVERY = 1000; // milliseconds between two looks at what is being built
let finished = null;
let watching = false;

const state = new URL('../build/state', import.meta.url);

const show = (now) => {
  // Not while a button is held down, as a press on what is replaced meanwhile would be lost.
  if (!builds.matches(':active')) builds.innerHTML = now.html;
  if (finished !== null && now.finished > finished) location.reload(); // so that the header has the new index
  finished = now.finished;
};

async function watch() {
  if (watching) return;
  watching = true;
  let now = { runs: true };
  while (now.runs) {
    try {
      now = await ask(state);
      show(now);
    } catch { /* the app may be starting again */ }
    if (now.runs) await new Promise((done) => setTimeout(done, EVERY));
  }
  watching = false;
}

form?.addEventListener('submit', async (event) => {
  event.preventDefault();
  const { name, source, zip, model, lora } = form.elements;
  const button = form.querySelector('button');
  button.disabled = true;
  told.textContent = zip.files.length ? 'Uploading…' : '';
  try {
    const sent = { name: name.value, source: source.value, model: model.value, lora: lora.value };
    if (zip.files.length) {
      sent.upload = (await ask(`${form.dataset.url}/zip`, { method: 'POST', body: zip.files[0] })).upload;
    }
    await post(form.dataset.url, sent);
    form.reset();
    told.textContent = '';
    watch();
  } catch (error) {
    told.textContent = error.message;
  }
  button.disabled = false;
});

builds.addEventListener('click', async (event) => {
  const url = event.target.dataset.post;
  if (!url) return;
  try {
    show(await post(url));
    watch();
  } catch (error) {
    (told ?? builds).textContent = error.message;
  }
});

watch();
