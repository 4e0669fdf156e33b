import { post } from './sending.js';

const form = document.querySelector('#new-case');
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const told = document.querySelector('#told');
  told.textContent = '';
  try {
    location.href = (await post(form.dataset.url, { name: form.elements.name.value })).url;
  } catch (error) {
    told.textContent = error.message;
  }
});

document.querySelector('#find-case')?.addEventListener('input', (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  const rows = [...document.querySelectorAll('[data-name]')];
  for (const row of rows) row.hidden = !row.dataset.name.includes(wanted);
  document.querySelector('#none-found').hidden = rows.some((row) => !row.hidden);
});
