// Below 1,080 px the form is folded under an answer; this unfolds it.
element.addEventListener('click', (event) => {
  const button = event.target.closest('.fi-again');
  if (!button) return;
  const open = element.closest('.fi-ask').classList.toggle('fi-open');
  button.setAttribute('aria-expanded', String(open));
});
