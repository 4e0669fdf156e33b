// The cards are links, so that they can be opened in a new tab; a plain click shows the answer on this page.
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-answer]');
  if (!card || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  document.documentElement.classList.add('fi-opening'); // makes room at once, before the answer is here
  document.querySelector('.fi-attribute').classList.remove('fi-sheet');
  document.querySelector('.fi-ask').classList.remove('fi-open');
  scrollTo({ top: 0 });
  trigger('select', { id: card.dataset.answer });
});
