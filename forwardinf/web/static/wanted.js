// A form whose fields say what of a list is shown; the list follows them, and so does the address.
export function wanted(form, list) {
  let latest = 0;
  async function show(more = {}) {
    const query = new URLSearchParams({ ...Object.fromEntries(new FormData(form)), ...more }).toString();
    const mine = ++latest;
    const answer = await fetch(`${location.pathname}?${query}&part=true`);
    const lines = await answer.text();
    if (mine !== latest || !answer.ok) return;
    list.innerHTML = lines;
    history.replaceState(null, '', `?${query}`);
  }
  form.addEventListener('input', () => show());
  form.addEventListener('submit', (event) => event.preventDefault());
  return show;
}
