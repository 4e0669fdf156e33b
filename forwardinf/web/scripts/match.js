// The slider moves the cut between query and training image; the button lowers the sheet.
element.addEventListener('input', (event) => {
  if (!event.target.matches('.fi-compare input')) return;
  event.target.parentElement.style.setProperty('--cut', event.target.value + '%');
});
element.addEventListener('click', (event) => {
  if (!event.target.closest('.fi-close')) return;
  element.closest('.fi-attribute').classList.remove('fi-sheet');
  document.querySelector('#influences [aria-pressed]')?.focus();
});
