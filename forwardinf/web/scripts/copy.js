element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const link = new URL(button.dataset.copy, document.baseURI).href;
  try { await navigator.clipboard.writeText(link); button.textContent = 'Link copied'; }
  catch { prompt('The link to this answer', link); }
});
