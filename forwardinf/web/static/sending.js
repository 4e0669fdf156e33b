// What the reviewers' pages send, and what they are told when it was not taken.
const LATER = [408, 429]; // what may be taken another time, as what a server that failed may

export async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { ...options, headers: { Accept: 'application/json', ...options.headers } });
  } catch {
    throw new Error('The app cannot be reached.');
  }
  const text = await answer.text();
  let said = {};
  try {
    said = JSON.parse(text);
  } catch {
    said = { detail: text };
  }
  if (answer.ok) return said;
  const why = typeof said.detail === 'string' && said.detail ? said.detail : `The app answered ${answer.status}.`;
  throw Object.assign(new Error(why), { refused: answer.status < 500 && !LATER.includes(answer.status) });
}

export const post = (url, value) =>
  ask(url, { method: 'POST', body: JSON.stringify(value ?? {}), headers: { 'Content-Type': 'application/json' } });
