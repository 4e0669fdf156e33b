// The address bar holds the link to the answer on show, or to the run that it waits for. An answer is dimmed while the
// prompt or the picture beside it is not the one that it answers.
const page = element.closest('.fi-attribute');
let watched = null; // the run that this page follows
const check = () => {
  const answer = page.querySelector('[data-result]');
  const prompt = page.querySelector('#prompt textarea, #prompt input');
  const picture = page.querySelector('#picture [data-sha256]');
  const other = answer && picture && picture.dataset.sha256 !== answer.dataset.query;
  const edited = answer && prompt && prompt.value.trim() !== answer.dataset.prompt.trim();
  const run = page.querySelector('[data-run]');
  const link = answer ? `?result=${answer.dataset.result}` : run ? `?run=${run.dataset.run}` : location.search;
  if (link !== location.search) history.replaceState(null, '', link);
  if (run && run.dataset.run !== watched) {
    watched = run.dataset.run;
    trigger('select', { id: watched });
  }
  page.classList.toggle('fi-stale', Boolean(other || edited));
  for (const card of document.querySelectorAll('[data-answer]')) {
    if (answer && card.dataset.answer === answer.dataset.result) card.setAttribute('aria-current', 'true');
    else card.removeAttribute('aria-current');
  }
  // Room that was made for an answer is given back once it is here, or will not come.
  if (page.querySelector('[data-state], #notice [role=alert]')) document.documentElement.classList.remove('fi-opening');
};
document.addEventListener('input', check);
new MutationObserver(() => requestAnimationFrame(check)).observe(page, { subtree: true, childList: true });
