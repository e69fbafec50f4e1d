// Keys that count everywhere, and the start.

// What a key that is held down, or the second click of a double one, finds under it may be another button by then: Generate and
// Stop take turns.
let clicked = null;
addEventListener('click', (event) => {
  const control = event.target.closest('button, label, .t');
  if (event.detail > 1 && control !== clicked) {
    event.preventDefault();
    event.stopPropagation();
  } else clicked = control;
}, true);

addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.repeat && (event.target.tagName !== 'TEXTAREA' || event.ctrlKey || event.metaKey)) event.preventDefault();
  else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault();
    generate();
  } else if (event.key === 'Escape' && !event.isComposing) {
    if (!$('why').hidden) {
      const inside = $('why').contains(document.activeElement);
      hideWhy();
      if (inside && tokens[current]) returnFocus(tokens[current].node);
    } else stopRunning();
  }
});

startSettings();
startTokens();
startStream();
startCode();
startStatus();
