// What makes the pages better where a browser runs scripts; every page for pupils works without.
'use strict';
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

  // Passwords can be looked at, and are covered again before they are sent: no browser remembers them as text.
  for (const input of all('.secret input')) {
    const eye = make('button', { type: 'button', className: 'quiet eye' });
    const show = (shown) => {
      const { show, hide, showLabel, hideLabel } = input.dataset;
      input.type = shown ? 'text' : 'password';
      eye.textContent = shown ? hide : show;
      eye.setAttribute('aria-label', shown ? hideLabel : showLabel);
    };
    eye.addEventListener('click', () => show(input.type === 'password'));
    input.form?.addEventListener('submit', () => show(false));
    show(false);
    input.after(eye);
  }

  // Hints while typing. They are read out after a pause, and never instead of the page's own errors.
  function hints(input, judge, ...also) {
    const place = make('p', { className: 'typing', id: `${input.id}-typing` });
    const said = make('p', { className: 'unseen' });
    said.setAttribute('role', 'status');
    input.closest('.field').append(place, said);
    let pause;
    const tell = (left) => {
      const [kind, text] = input.value ? judge(input.value, left) : ['', ''];
      place.className = `typing ${kind}`;
      if (place.textContent !== text) place.textContent = text;
      clearTimeout(pause);
      pause = setTimeout(() => { said.textContent = kind ? text : ''; }, left ? 0 : 900);
    };
    for (const source of [input, ...also]) source.addEventListener('input', () => tell(false));
    input.addEventListener('blur', () => tell(true));
  }

  for (const input of all('[data-number-digits]')) {
    const { numberDigits, numberPrefix, hintLetterO, hintShort, hintLong, hintPrefix, hintGood } = input.dataset;
    const digits = Number(numberDigits);
    hints(input, (value, left) => {
      const typed = value.trim().toUpperCase();
      const bare = numberPrefix && typed.startsWith(numberPrefix.toUpperCase()) ? typed.slice(numberPrefix.length) : typed;
      if (/^[\dO]*O[\dO]*$/.test(bare)) return ['bad', hintLetterO];
      if (bare !== typed && /^\d*$/.test(bare)) return ['bad', hintPrefix];
      if (!/^\d+$/.test(typed)) return ['', ''];
      if (typed.length > digits) return ['bad', hintLong];
      return typed.length < digits ? [left ? 'bad' : '', hintShort] : ['good', hintGood];
    });
  }

  for (const input of all('[data-length]')) {
    const { length, hintShort, hintGood } = input.dataset;
    hints(input, (value, left) => [...value].length < Number(length) ? [left ? 'bad' : '', hintShort] : ['good', hintGood]);
  }

  for (const input of all('[data-match]')) {
    const first = document.getElementById(input.dataset.match);
    if (!first) continue;
    hints(input, (value, left) => {
      if (value === first.value) return ['good', input.dataset.matchYes];
      return [first.value.startsWith(value) && !left ? '' : 'bad', input.dataset.matchNo];
    }, first);
  }

  // What is chosen in one list of a group is not offered in its other lists.
  function distinct() {
    const lists = all('select[data-distinct]');
    const chosen = (list) => lists.filter((other) => other !== list && other.dataset.distinct === list.dataset.distinct).map((other) => other.value);
    for (const list of lists) {
      const taken = chosen(list);
      for (const option of list.options) option.disabled = option.hidden = option.value !== '' && taken.includes(option.value);
    }
  }
  document.addEventListener('change', distinct);
  distinct();

  // A form is sent once. Its button says that it is on its way, until the next page is there.
  const sent = new Map();
  function release(form) {
    const button = sent.get(form);
    sent.delete(form);
    if (!button) return;
    button.classList.remove('busy');
    button.removeAttribute('aria-disabled');
    button.textContent = button.dataset.text;
  }
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method === 'dialog' || 'download' in form.dataset) return;
    if (sent.has(form)) return event.preventDefault();
    const button = event.submitter?.dataset.busy ? event.submitter : null;
    sent.set(form, button);
    if (button) {
      button.style.minWidth = `${button.offsetWidth}px`;
      button.dataset.text = button.textContent;
      button.classList.add('busy');
      button.setAttribute('aria-disabled', 'true');
      button.textContent = button.dataset.busy;
    }
    setTimeout(release, 20000, form);
  });

  // A step that was sent and shown again is a page to go back to like any other, not one to be sent once more.
  if (document.querySelector('form[data-step]')) history.replaceState(history.state, '', location.href);

  // What was looked at counts no more as soon as somebody changes it below: look again.
  document.querySelector('form[data-edits]')?.addEventListener('input', () => {
    for (const form of all('form[data-until-edited]')) form.hidden = true;
  });

  // A list that was only looked at is kept nowhere: whoever leaves by another way than its buttons is asked first.
  if (document.querySelector('form[data-edits]')) {
    const leaving = (event) => event.preventDefault();
    addEventListener('beforeunload', leaving);
    const decided = () => removeEventListener('beforeunload', leaving);
    addEventListener('submit', decided);
    document.querySelector('[data-gives-up]')?.addEventListener('click', decided);
  }

  // A form that only carries something to another site goes by itself; without scripts by its button.
  document.querySelector('form[data-send]')?.requestSubmit();

  // Another language keeps what was typed: the form goes along. A password is typed again.
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('.languages a');
    const form = link && document.querySelector('form[data-step]');
    if (!form || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const fields = all('input:not([type=hidden]), select, textarea', form);
    const touched = (field) => field.options ? !field.options[field.selectedIndex]?.defaultSelected && field.value : field.value !== field.defaultValue;
    if (!fields.some(touched)) return;
    event.preventDefault();
    for (const input of all('.secret input', form)) input.value = '';
    form.append(make('input', { type: 'hidden', name: 'language', value: link.hreflang }));
    form.submit();
  });

  // A page out of the browser's memory may be somebody else's by now.
  addEventListener('pageshow', (event) => {
    if (event.persisted) location.reload();
    else for (const form of [...sent.keys()]) release(form);
  });

  // What a page has to say first has the focus; its links lead into the fields.
  document.querySelector('[data-focus]')?.focus();
  document.addEventListener('click', (event) => {
    const field = event.target.closest?.('.notice a[href^="#f-"]');
    const input = field && document.getElementById(field.hash.slice(1));
    if (!input) return;
    event.preventDefault();
    input.focus();
  });

  document.querySelector('.tabs [aria-current]')?.scrollIntoView({ inline: 'center', block: 'nearest' });

  for (const button of all('[data-print]')) {
    button.hidden = false;
    button.addEventListener('click', () => print());
  }

  idle(document.body.dataset);
  live();

  // Whoever does nothing is asked, then signed out. Any tab of the district keeps all of them.
  function idle({ idleSeconds, warningSeconds, keepAlive, idle: leaving }) {
    const dialog = document.getElementById('idle');
    if (!idleSeconds || !dialog) return;
    const whole = Number(idleSeconds) * 1000, warning = Math.min(Number(warningSeconds) * 1000, whole / 2);
    const tabs = 'BroadcastChannel' in window ? new BroadcastChannel(keepAlive) : null;
    const countdown = dialog.querySelector('.countdown');
    let until = Date.now() + whole, active = false, asking = false;

    const leave = () => { tabs?.postMessage('gone'); location.replace(leaving); };
    const stay = () => { until = Date.now() + whole; active = false; if (dialog.open) dialog.close(); };
    async function keep() {
      if (asking) return;
      asking = true;
      try {
        const answer = await fetch(keepAlive, { method: 'POST', body: new URLSearchParams(), redirect: 'manual' });
        if (answer.status === 401) return leave();
        if (!answer.ok) return; // away for a moment: as without a network
        stay();
        tabs?.postMessage('stay');
      } catch {
        // No network: the time runs on, and the next try may get through.
      } finally {
        asking = false;
      }
    }
    function tick() {
      const left = until - Date.now();
      if (left <= 0) return leave();
      if (left > warning) {
        if (active && left < whole * 0.75) keep();
        return;
      }
      if (!dialog.open) dialog.showModal();
      countdown.textContent = `${Math.floor(left / 60000)}:${String(Math.floor(left / 1000) % 60).padStart(2, '0')}`;
    }
    for (const name of ['pointerdown', 'keydown', 'wheel', 'touchmove'])
      addEventListener(name, () => { active = active || !dialog.open; }, { passive: true });
    tabs?.addEventListener('message', ({ data }) => { data === 'gone' ? location.replace(leaving) : stay(); });
    dialog.addEventListener('cancel', (event) => { event.preventDefault(); keep(); });
    dialog.querySelector('[data-stay]').addEventListener('click', keep);
    document.addEventListener('visibilitychange', tick);
    setInterval(tick, 1000);
    tabs?.postMessage('stay');
  }

  // Parts marked data-live="name" are fetched anew while somebody looks at them, as long as one of them says how often.
  function live() {
    const every = () => Math.min(...all('[data-refresh-seconds]').map((part) => Number(part.dataset.refreshSeconds) || Infinity));
    async function refresh() {
      if (document.hidden || document.querySelector('dialog[open]')) return again();
      try {
        const answer = await fetch(location.href, { headers: { Accept: 'text/html' } });
        if (answer.redirected) return location.reload();
        if (!answer.ok) throw new Error(answer.status);
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
        for (const part of all('[data-live]')) {
          const next = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
          part.classList.remove('stale');
          if (next) all('details', part).forEach((each, n) => { (all('details', next)[n] ?? each).open = each.open; });
          if (next && next.outerHTML !== part.outerHTML && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(next));
        }
      } catch {
        for (const part of all('[data-live]')) part.classList.add('stale');
      }
      again();
    }
    const again = () => { if (Number.isFinite(every())) setTimeout(refresh, Math.max(every(), 1) * 1000); };
    again();
  }
})();
