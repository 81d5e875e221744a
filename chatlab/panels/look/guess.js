// A guess card: a question, a button an answer, and what became of it.

function render({ model, el }) {
  const question = h("div.question");
  const answers = h("div.answers", { role: "group" });
  const words = h("span.words");
  const verdict = h("b.verdict");
  const outcome = h("div.outcome", { role: "status", "aria-live": "polite" }, words, verdict);
  const [note, drawNote] = footnote();
  // A notebook's own keys are not meant here: Enter chooses, it does not open the cell.
  el.append(h("div.panel.guess", { "data-lm-suppress-shortcuts": "true" },
    question, answers, outcome, note));

  function makeAnswer(answer) {
    return h("button.answer", { type: "button", onkeydown: move,
      onclick: () => model.send({ do: "choose", option: answer.key }) },
      h("span.dot", { "aria-hidden": "true" }), h("span.option", {}, answer.key));
  }
  function move(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...answers.children];
    all[(all.indexOf(event.currentTarget) + step + all.length) % all.length].focus();
  }

  function draw(view) {
    if (!view.question) return;
    say(question, view.question);
    answers.setAttribute("aria-label", view.question);
    keep(answers, view.fixed ? [] : view.options.map((option) => ({ key: option })), makeAnswer,
      (element, answer) => element.setAttribute("aria-pressed", String(answer.key === view.guess)));
    answers.hidden = view.fixed;
    say(words, view.words || "guess before you run it");
    say(verdict, view.verdict);
    outcome.classList.toggle("chatlab-right", view.verdict === "as guessed");
    outcome.classList.toggle("chatlab-wrong", view.verdict === "not as guessed");
    outcome.classList.toggle("chatlab-open", !view.fixed);
    drawNote(view);
  }
  return follow(model, draw);
}

export default { render };
