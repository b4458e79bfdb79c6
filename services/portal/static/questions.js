// Each question brings the field that fits its answer: a list of months, four digits, a few words.
'use strict';
for (const group of document.querySelectorAll('[data-answers]')) {
  const list = group.querySelector('select');
  list.addEventListener('change', () => {
    const template = document.querySelector(`template[data-answer-to="${CSS.escape(list.value)}"]`);
    const old = document.getElementById(list.id.replace('question', 'answer')).closest('.field');
    if (!template) return;
    const field = template.content.firstElementChild.cloneNode(true);
    const name = list.name.replace('question', 'answer');
    for (const element of [field, ...field.querySelectorAll('*')])
      for (const { name: attribute, value } of [...element.attributes])
        if (value.includes('answer-0')) element.setAttribute(attribute, value.replaceAll('answer-0', name));
    old.replaceWith(field);
  });
}
