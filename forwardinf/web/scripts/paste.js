// Gradio's file field takes clicks and drops; a pasted picture is handed to it as if it had been dropped.
document.addEventListener('paste', (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/'));
  const field = document.querySelector('#upload input[type=file]');
  if (!file || !field) return;
  event.preventDefault();
  const carrier = new DataTransfer();
  carrier.items.add(file);
  field.files = carrier.files;
  field.dispatchEvent(new Event('change', { bubbles: true }));
});
