// A pressed tile, or point, is compared with the query beside the tiles; on a narrow screen the comparison rises as a sheet.
element.addEventListener('click', (event) => {
  const tile = event.target.closest('[data-id]');
  if (!tile || !document.querySelector('[data-result]')) return;
  document.querySelectorAll('.fi-attribute [aria-pressed]').forEach((other) => other.removeAttribute('aria-pressed'));
  tile.setAttribute('aria-pressed', 'true');
  tile.closest('.fi-attribute').classList.add('fi-sheet');
  if (matchMedia('(max-width: 1079px)').matches) tile.scrollIntoView({ block: 'start' });
  trigger('select', { id: tile.dataset.id });
});
