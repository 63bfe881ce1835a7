// Filters of the gallery and of the page of errors. Without scripts everything
// is shown.
function filterGallery(form) {
  const cards = [...document.querySelectorAll('.card')];
  const count = form.querySelector('.count');
  const selects = [...form.querySelectorAll('select')];
  const update = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = selects.some((select) => select.value &&
        !card.dataset[select.name].split('|').includes(select.value));
      shown += !card.hidden;
    }
    count.textContent = `${shown} of ${cards.length} methods`;
  };
  // a link such as methods.html?task=pose sets the filters
  const asked = new URLSearchParams(location.search);
  for (const select of selects) {
    const value = asked.get(select.name);
    if ([...select.options].some((o) => o.value === value)) {
      select.value = value;
    }
    select.addEventListener('change', update);
  }
  form.hidden = false;
  update();
}

function wordsOf(text) {
  return new Set(text.toLowerCase().match(/[a-z_][a-z_0-9]{2,}/g) || []);
}

// share of the row's words that the pasted text has, with words of few rows
// counting more
function filterErrors(box) {
  const rows = [...document.querySelectorAll('.error')].map((element) => ({
    element, words: wordsOf(element.querySelector('h2').textContent),
    text: element.textContent.toLowerCase(),
  }));
  const frequency = new Map();
  for (const { words } of rows) {
    for (const word of words) {
      frequency.set(word, (frequency.get(word) || 0) + 1);
    }
  }
  const weigh = (words) => [...words].reduce(
    (sum, word) => sum + 1 / (frequency.get(word) || 1), 0);
  const input = box.querySelector('input');
  const count = box.querySelector('.count');
  const parent = rows[0].element.parentNode;
  const end = rows[rows.length - 1].element.nextSibling;
  const update = () => {
    const typed = input.value.trim().toLowerCase();
    const words = wordsOf(typed);
    for (const row of rows) {
      const common = new Set([...row.words].filter((w) => words.has(w)));
      const share = weigh(common) / (weigh(row.words) || 1);
      const asked = weigh(common) / (weigh(words) || 1);
      row.score = row.text.includes(typed) ? 2 : Math.max(share, asked);
      row.element.hidden = Boolean(typed) && row.score < 0.4;
    }
    const order = typed ?
      [...rows].sort((a, b) => b.score - a.score) : rows;
    for (const row of order) {
      parent.insertBefore(row.element, end);
    }
    const shown = rows.filter((row) => !row.element.hidden).length;
    count.textContent = shown ? `${shown} of ${rows.length} messages` :
      'No guide explains this message. Try fewer words, or report it.';
  };
  // a link such as errors.html?message=TEXT; q is the theme's own search
  input.value = new URLSearchParams(location.search).get('message') || '';
  input.addEventListener('input', update);
  box.hidden = false;
  update();
}

document.addEventListener('DOMContentLoaded', () => {
  const gallery = document.getElementById('gallery-filter');
  const errors = document.getElementById('error-filter');
  if (gallery) filterGallery(gallery);
  if (errors) filterErrors(errors);
});
