// The switcher in the header: which index the page is about, where the app has several.
const root = new URL('../', import.meta.url);

const shown = async () => {
  const answer = await fetch(new URL('indexes.json', root));
  return answer.ok ? answer.json() : [];
};

const navigation = () =>
  new Promise((found) => {
    const look = () => {
      const nav = document.querySelector('.nav-holder nav');
      if (nav) { watch.disconnect(); found(nav); }
    };
    const watch = new MutationObserver(look);
    watch.observe(document.documentElement, { childList: true, subtree: true });
    look();
  });

const switcher = (indexes) => {
  const select = document.createElement('select');
  select.className = 'fi-switcher';
  select.setAttribute('aria-label', 'Index');
  for (const index of indexes) {
    select.add(new Option(`${index.name} · ${index.images.toLocaleString('en')}`, index.url, index.current, index.current));
  }
  select.addEventListener('change', () => {
    const page = location.pathname.slice(root.pathname.length);
    location.href = select.value + page;
  });
  // Going back shows the page that was left, whose choice is of the other index.
  addEventListener('pageshow', () => { select.value = indexes.find((index) => index.current).url; });
  return select;
};

const indexes = await shown();
if (indexes.length > 1) {
  const nav = await navigation();
  nav.classList.add('fi-has-switcher');
  nav.prepend(switcher(indexes));
}
