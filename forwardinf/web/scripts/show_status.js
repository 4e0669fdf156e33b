() => {
  document.documentElement.classList.add('fi-opening'); // makes room at once, before the answer is here
  document.querySelector('.fi-attribute').classList.remove('fi-sheet');
  document.querySelector('.fi-ask').classList.remove('fi-open');
  const narrow = matchMedia('(max-width: 1079px)').matches;
  document.querySelector('#status').scrollIntoView({ block: narrow ? 'start' : 'nearest' });
}
