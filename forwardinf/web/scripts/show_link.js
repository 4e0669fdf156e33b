() => {
  // The address bar holds the link to the answer, if one is on show.
  const answer = document.querySelector('[data-result]');
  const id = answer?.dataset.result;
  history.replaceState(null, '', id ? `?result=${id}` : location.pathname);
}
