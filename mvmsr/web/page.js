// The divider of the comparison for the keyboard and for screen readers: gradio's own follows mouse and finger alone.
(() => {
  const STEPS = {
    ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02,
    PageDown: -0.2, PageUp: 0.2, Home: -1, End: 1,
  };

  const middle = (box) => box.left + box.width / 2;

  function measure(handle) {
    const picture = document.querySelector('#compared img').getBoundingClientRect();
    const share = (middle(handle.getBoundingClientRect()) - picture.left) / picture.width;
    return { picture, share: Math.min(Math.max(share, 0), 1) };
  }

  function fire(target, type, clientX, clientY) {
    target.dispatchEvent(new MouseEvent(type, { clientX, clientY, bubbles: true, cancelable: true, view: window }));
  }

  function press(event) {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const handle = event.currentTarget;
    const { picture, share } = measure(handle);
    const to = picture.left + picture.width * Math.min(Math.max(share + step, 0), 1);
    const height = picture.top + picture.height / 2;
    fire(handle, 'mousedown', middle(handle.getBoundingClientRect()), height);
    fire(window, 'mousemove', to, height);
    fire(window, 'mouseup', to, height);
  }

  function tell(handle) {
    const now = String(Math.round(measure(handle).share * 100));
    if (handle.getAttribute('aria-valuenow') !== now) handle.setAttribute('aria-valuenow', now);
  }

  function prepare() {
    const handle = document.querySelector('#compared [data-testid="slider"]');
    if (!handle || handle.getAttribute('role') === 'slider') return;
    const about = { role: 'slider', tabindex: 0, 'aria-label': 'Divider: bicubic on its left, the result on its right' };
    Object.assign(about, { 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-orientation': 'horizontal' });
    for (const [name, value] of Object.entries(about)) handle.setAttribute(name, value);
    handle.addEventListener('keydown', press);
    new MutationObserver(() => tell(handle)).observe(handle, { attributeFilter: ['style'] });
    tell(handle);
  }

  new MutationObserver(prepare).observe(document.documentElement, { childList: true, subtree: true });
})();
