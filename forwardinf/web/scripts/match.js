// Each match that is shown can be compared, in the way that the one before it was; the button lowers the sheet.
import(new URL('site/compare.js', document.baseURI)).then(({ comparison }) => {
  let shown = null, compared = null;
  const begin = () => {
    const next = element.querySelector('.fi-comparison');
    if (!next || next === shown) return;
    const settings = compared?.settings();
    compared?.end();
    [shown, compared] = [next, comparison(next)];
    if (settings) compared.restore(settings);
  };
  new MutationObserver(begin).observe(element, { childList: true, subtree: true });
  begin();
});
element.addEventListener('click', (event) => {
  if (!event.target.closest('.fi-close')) return;
  element.closest('.fi-attribute').classList.remove('fi-sheet');
  document.querySelector('#influences [aria-pressed]')?.focus();
});
