"""What any page of a report is held to, as functions for a browser: each returns what is wrong."""

TIMEOUT_MS = 240_000  # only ends what hangs; unless told a browser has 30 s

# what reaches beyond the window, but for what scrolls by itself
TOO_WIDE = """() => {
  const out = [];
  for (const e of document.querySelectorAll('body *')) {
    const r = e.getBoundingClientRect();
    if (r.width && r.right > innerWidth + 1 && !e.closest('.scroll, .skip, svg'))
      out.push(e.tagName + '.' + e.className + ' to ' + r.right);
  }
  return out.slice(0, 5);
}"""

# WCAG 2.2, 1.4.3: texts with a contrast under 4.5, drawings included
CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || (c.length === 4 && c[3] === 1)) return c;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const box = e.getBoundingClientRect();
    if (!own || !box.width || e.closest('.hidden, .skip, title, desc')) continue;
    const style = getComputedStyle(e);
    const inDrawing = e.namespaceURI.endsWith('svg');
    const card = inDrawing && getComputedStyle(e.closest('.card')).backgroundColor;
    if (inDrawing && style.fill === card) continue;  // a value on its bar: the bar is behind it
    const a = light(parse(inDrawing ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`${e.tagName}.${e.className.baseVal ?? e.className}: ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""

# texts of drawings that leave them or cover each other
CROWDED = """() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('svg.plot')) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]);
    texts.forEach(([said, a], i) => {
      const left = frame.left - 1, right = frame.right + 1, top = frame.top - 1, bottom = frame.bottom + 1;
      if (a.left < left || a.right > right || a.top < top || a.bottom > bottom)
        wrong.push(`${svg.querySelector('title').textContent}: "${said}" leaves the drawing`);
      for (const [other, b] of texts.slice(i + 1)) {
        const over = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (over > 3 && down > 4)
          wrong.push(`${svg.querySelector('title').textContent}: "${said}" covers "${other}"`);
      }
    });
  }
  return wrong.slice(0, 8);
}"""
