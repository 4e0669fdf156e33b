import { post } from './sending.js';
import { wanted } from './wanted.js';

const form = document.querySelector('#wanted');
const list = document.querySelector('#lines');
const compare = document.querySelector('#compare-two');
const picked = new Set();

if (form) {
  const show = wanted(form, list);

  list.addEventListener('change', (event) => {
    const { pick } = event.target.dataset;
    if (!pick) return;
    picked[event.target.checked ? 'add' : 'delete'](pick);
    compare.disabled = picked.size !== 2;
  });

  new MutationObserver(() => {
    for (const box of list.querySelectorAll('[data-pick]')) box.checked = picked.has(box.dataset.pick);
  }).observe(list, { childList: true });

  compare.addEventListener('click', () => {
    const [first, second] = picked;
    location.href = `${compare.dataset.url}?${new URLSearchParams({ first, second })}`;
  });

  document.querySelector('#sheet').addEventListener('click', (event) => { event.currentTarget.search = location.search; });

  list.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-delete], [data-page]');
    if (!button) return;
    if (button.dataset.page) {
      await show({ page: button.dataset.page });
      return list.scrollIntoView();
    }
    if (!confirm(`Delete the answer about “${button.dataset.name}” for good?`)) return;
    const told = document.querySelector('#told');
    told.textContent = '';
    try {
      await post(button.dataset.delete);
      picked.delete(button.closest('tr').querySelector('[data-pick]').dataset.pick);
      compare.disabled = picked.size !== 2;
      await show();
    } catch (error) {
      told.textContent = error.message;
    }
  });
}
