// The panel above the viewer; see talk.py for the messages. Texts are set as text, and never as HTML.
"use strict";
const at = (id) => document.getElementById(id);
let socket = null;
let known = "";

function send(message) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function show(state) {
  document.title = "SimScaleAI | " + state.title;
  at("status").textContent = state.status;
  at("instruction").textContent = state.instruction === "" ? "" : "\u201c" + state.instruction + "\u201d";
  at("note").textContent = state.note;
  for (const id of ["sentence", "say", "own"]) at(id).disabled = !state.listens;
  at("sentence").placeholder = state.listens ? "Tell the policy what to do" : "This task takes no instruction";
  const menu = at("policies");
  if (known !== JSON.stringify(state.policies)) {
    known = JSON.stringify(state.policies);
    menu.replaceChildren(...state.policies.map((name, index) => new Option(name, String(index))));
  }
  // not while the user is choosing
  if (document.activeElement !== menu || state.note !== "") menu.value = String(state.policy);
  menu.disabled = state.policies.length < 2;
}

function connect() {
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/talk");
  socket.onmessage = (event) => show(JSON.parse(event.data));
  socket.onclose = () => {
    at("status").textContent = "The simulation has stopped.";
    setTimeout(connect, 2000);
  };
}

at("policies").onchange = (event) => {
  send({ policy: Number(event.target.value) });
  event.target.blur();
};
at("form").onsubmit = (event) => {
  event.preventDefault();
  send({ instruction: at("sentence").value });
};
at("own").onclick = () => {
  at("sentence").value = "";
  send({ instruction: "" });
};
connect();
