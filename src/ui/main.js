// Keys that count everywhere, and the start.

addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.isComposing) {
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
