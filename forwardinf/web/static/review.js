// A picture beside its matches, decided on by mouse or keyboard. Saves follow one another; see saves.js.
import { comparison } from './compare.js';
import { saves } from './saves.js';

const $ = (selector, within = document) => within.querySelector(selector);
const bench = $('#bench');
const author = $('#author');
const told = $('#told');
const pages = new Map(); // pictures that were loaded beforehand, by number
let compared = null;
let loading = null; // the number of the picture that is on its way
let undecided = new Set();
const onlySees = $('.fi-only-seeing') !== null; // a viewer, who decides nothing

const review = () => $('#review');
const panel = () => $('[data-panel]:not([hidden])', bench);
const reason = (of = panel()) => $('textarea', of);
const number = () => Number(review().dataset.number);
const pageOf = (wanted) => `${review().dataset.base}/${wanted}`;
const hint = (text, of = panel()) => { $('.fi-hint', of).textContent = text; };
const tell = (text) => { told.textContent = text; };

// Saving

const queue = saves(showSaves, acknowledged, refused);

function showSaves({ waiting, problem, saved }) {
  const status = $('#saved');
  status.dataset.saves = problem ? 'failed' : waiting ? 'saving' : 'saved';
  status.dataset.saved = saved;
  const left = `${waiting} decision${waiting === 1 ? '' : 's'}`;
  status.textContent = problem ? `${left} not saved: ${problem}` : waiting ? `Saving ${left}…` : 'All decisions saved ✓';
  $('#try-again').hidden = !problem;
}

function acknowledged(save, said, waiting) {
  pages.delete(save.picture);
  if (save.picture !== number()) return;
  const of = $(`[data-panel="${CSS.escape(save.body.match ?? '')}"]`, bench);
  $('.fi-history', of).innerHTML = said.history;
  if (!waiting.some((other) => other.picture === save.picture && other.body.match === save.body.match)) hint('Saved ✓', of);
}

function refused(save, why) {
  const about = save.body.match ? `${save.body.match} of picture ${save.picture}` : `picture ${save.picture}`;
  tell(`Not saved: “${save.body.verdict}” on ${about}, “${save.body.reason}”. ${why}`);
  pages.clear();
}

function send(of, verdict, text) {
  const picture = number();
  const match = of.dataset.panel || null;
  [of.dataset.verdict, of.dataset.reason] = verdict === 'withdrawn' ? ['', ''] : [verdict, text];
  if (match === null) undecided[verdict === 'withdrawn' ? 'add' : 'delete'](picture);
  show(of);
  hint('Saving…', of);
  const body = { verdict, reason: text, match, author: author.value.trim(), seen: review().dataset.result };
  queue.add({ url: `${pageOf(picture)}/decisions`, picture, body });
}

// Deciding

function show(of) {
  for (const button of of.querySelectorAll('[data-verdict]')) {
    button.setAttribute('aria-pressed', String(button.dataset.verdict === of.dataset.verdict));
    button.classList.toggle('fi-pending', button.dataset.verdict === of.dataset.pending);
  }
  $('[data-undo]', of).hidden = !of.dataset.verdict;
  $(`[data-subject="${CSS.escape(of.dataset.panel)}"] .fi-mark`, bench).textContent = of.dataset.verdict;
}

function hasAuthor() {
  if (author.value.trim()) return true;
  tell('Say who reviews first: every decision carries a name.');
  author.focus();
  return false;
}

function decide(verdict) {
  if (onlySees) return tell('Deciding is for reviewers; you are signed in as a viewer.');
  if (!hasAuthor()) return;
  const of = panel();
  const text = reason(of).value.trim();
  if (!text) {
    of.dataset.pending = verdict;
    show(of);
    hint(`“${verdict}” needs a reason: say what it rests on, then press Enter.`);
    return reason(of).focus();
  }
  record(of, verdict, text);
}

function record(of, verdict, text) {
  delete of.dataset.pending;
  if (of.dataset.verdict === verdict && of.dataset.reason === text) return show(of);
  send(of, verdict, text);
}

/** Save what was typed, where a verdict goes with it; false where it is not saved though it differs. */
function keepReason(of) {
  const text = reason(of).value.trim();
  const verdict = of.dataset.pending || of.dataset.verdict;
  if (verdict && text && hasAuthor()) record(of, verdict, text);
  else if (verdict && !text) hint('A decision needs a reason. Esc brings the saved one back.', of);
  else if (text && !verdict) hint('Not a decision yet: press 1 to 4.', of);
  return !isDraft(of);
}

const isDraft = (of) => Boolean(of.dataset.pending) || reason(of).value.trim() !== (of.dataset.reason ?? '').trim();

function withdraw() {
  const of = panel();
  if (of.dataset.pending) return leaveReason(of);
  if (!of.dataset.verdict || !hasAuthor()) return;
  send(of, 'withdrawn', 'Withdrawn while reviewing.');
  reason(of).value = '';
}

function leaveReason(of) {
  reason(of).value = of.dataset.reason ?? '';
  delete of.dataset.pending;
  show(of);
  hint('', of);
  review().focus({ preventScroll: true });
}

// What is decided on

function choose(button) {
  for (const other of bench.querySelectorAll('[data-subject]')) other.setAttribute('aria-pressed', String(other === button));
  for (const of of bench.querySelectorAll('[data-panel]')) of.hidden = of.dataset.panel !== button.dataset.subject;
  compared.show(button.dataset.image, button.dataset.alt);
  const list = button.parentElement; // scrolled by itself: scrollIntoView would move the page too
  list.scrollTo({ top: button.offsetTop - list.offsetTop - 60, left: button.offsetLeft - list.offsetLeft - 60 });
}

function step(by) {
  const all = [...bench.querySelectorAll('[data-subject]')];
  const place = all.findIndex((one) => one.getAttribute('aria-pressed') === 'true') + by;
  if (all[place]) choose(all[place]);
}

// From picture to picture

function nextUndecided() {
  const open = [...undecided].filter((one) => one !== number()).sort((a, b) => a - b);
  return open.find((one) => one > number()) ?? open[0];
}

const fetched = (wanted) => fetch(`${pageOf(wanted)}?part=true`).then((answer) => {
  if (!answer.ok) throw new Error(`Picture ${wanted} cannot be shown.`);
  return answer.text();
});

async function loadBeforehand() {
  const wanted = nextUndecided();
  if (!wanted || pages.has(wanted)) return;
  try {
    pages.set(wanted, await fetched(wanted));
  } catch {
    return; // it is asked for again when its turn comes
  }
  const holder = document.createElement('template');
  holder.innerHTML = pages.get(wanted);
  for (const image of holder.content.querySelectorAll('.fi-layer img')) new Image().src = image.getAttribute('src') ?? '';
}

/** Whether nothing that was typed would be lost by leaving. */
function nothingOpen() {
  const open = [...bench.querySelectorAll('[data-panel]')].find((of) => isDraft(of) && !keepReason(of));
  if (!open) return true;
  choose($(`[data-subject="${CSS.escape(open.dataset.panel)}"]`, bench));
  reason(open).focus();
  hint('This reason belongs to no decision yet: press Esc to drop it, or leave the field and press 1 to 4.', open);
  return false;
}

async function go(wanted, { remember = true } = {}) {
  if (loading || !nothingOpen()) return false;
  tell('');
  let page = pages.get(wanted);
  if (!page) {
    loading = wanted;
    bench.setAttribute('aria-busy', 'true');
    try {
      page = await fetched(wanted);
    } catch (error) {
      early.length = 0; // they were meant for a picture that does not come
      tell(error.message);
      return false;
    } finally {
      loading = null;
      bench.removeAttribute('aria-busy');
    }
  }
  if (remember) history.pushState(null, '', pageOf(wanted));
  const settings = compared.settings();
  compared.end();
  bench.innerHTML = page;
  begin(undecided); // the page may be older than the last decisions
  compared.restore(settings);
  review().focus({ preventScroll: true });
  scrollTo({ top: 0 });
  pressEarly();
  return true;
}

function goOn() {
  const wanted = nextUndecided();
  if (wanted) go(wanted);
  else if (undecided.size) tell('This is the only picture that you have not decided as a whole.');
  else tell('You have decided every picture of this case. Its page has the report and the evidence pack.');
}

function begin(known = new Set(JSON.parse(review().dataset.undecided))) {
  undecided = known;
  document.title = review().dataset.title;
  compared = comparison($('.fi-comparison', bench));
  loadBeforehand();
}

// Mouse, fields and keys

bench.addEventListener('click', (event) => {
  const pressed = event.target.closest('button, a');
  if (!pressed || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const { subject, verdict, undo, go: wanted, next } = pressed.dataset;
  if (subject !== undefined) choose(pressed);
  else if (verdict) decide(verdict);
  else if (undo !== undefined) withdraw();
  else if (wanted) { event.preventDefault(); go(Number(wanted)); }
  else if (next !== undefined) { event.preventDefault(); goOn(); }
  if (event.detail && pressed.matches('button') && document.activeElement === pressed) review().focus({ preventScroll: true });
});

bench.addEventListener('focusout', (event) => {
  if (!event.target.matches('textarea') || event.relatedTarget?.closest('[data-verdict], [data-undo]')) return;
  const of = event.target.closest('[data-panel]');
  if (of && isDraft(of)) keepReason(of);
});

author.addEventListener('change', () => {
  document.cookie = `reviewer=${encodeURIComponent(author.value.trim())}; path=/; max-age=31536000; samesite=strict`;
  pages.clear();
  queue.again().then(() => { if (!queue.waiting) location.reload(); });
});

$('#try-again').addEventListener('click', () => queue.again());
$('#show-keys').addEventListener('click', () => $('#keys').showModal());
const keysOn = $('#keys-on');
keysOn.checked = localStorage.getItem('forwardinf-keys') !== 'off';
keysOn.addEventListener('change', () => localStorage.setItem('forwardinf-keys', keysOn.checked ? 'on' : 'off'));

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => { reason().focus(); reason().select(); },
  u: withdraw,
  r: () => queue.again(),
  b: () => compared.mode('blink'),
  o: () => compared.mode('overlay'),
  d: () => compared.mode('difference'),
  z: () => compared.enlarge(0),
  '?': () => $('#keys').showModal(),
};

/** What a key does; false where it is left to the browser. */
function press(key, shift) {
  const field = document.activeElement;
  if (field?.matches('textarea')) {
    const of = panel();
    if (key === 'Escape') leaveReason(of);
    else if (key === 'Enter' && !shift) {
      if (keepReason(of) || reason(of).value.trim()) review().focus({ preventScroll: true });
    } else return false;
    return true;
  }
  const verdict = bench.querySelectorAll('[data-panel]:not([hidden]) [data-verdict]')[Number(key) - 1];
  const act = verdict ? () => decide(verdict.dataset.verdict) : key === 'Enter' ? goOn : KEYS[key.toLowerCase()];
  act?.();
  return Boolean(act);
}

// Keys that are pressed while a picture is on its way wait for it, so that none is lost or taken for another one's.
const early = [];

function pressEarly() {
  while (early.length && !loading) {
    const { key, shift } = early.shift();
    if (press(key, shift) || !document.activeElement?.matches('textarea')) continue;
    const field = document.activeElement;
    if (key === 'Backspace') field.value = field.value.slice(0, -1);
    else if (key.length === 1 || key === 'Enter') field.value += key === 'Enter' ? '\n' : key;
  }
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $('#keys').open) return;
  if (loading) {
    event.preventDefault();
    if (!event.repeat) early.push({ key: event.key, shift: event.shiftKey });
    return;
  }
  if (event.target === author && event.key === 'Enter') return author.blur();
  if (event.target.matches('input, select') || (!keysOn.checked && !event.target.matches('textarea'))) return;
  if (event.repeat && !event.target.matches('textarea')) return;
  if (event.key === 'Enter' && event.target.closest('button, a, summary')) return;
  if (press(event.key, event.shiftKey)) event.preventDefault();
});

addEventListener('popstate', async () => {
  const gone = await go(Number(location.pathname.split('/').pop()), { remember: false });
  if (!gone) history.pushState(null, '', pageOf(number()));
});
addEventListener('beforeunload', (event) => {
  if (queue.waiting || [...bench.querySelectorAll('[data-panel]')].some(isDraft)) event.preventDefault();
});

begin();
review().focus({ preventScroll: true });
if (!author.value.trim() && !onlySees && matchMedia('(hover: hover)').matches) author.focus(); // elsewhere a keyboard would cover the page
