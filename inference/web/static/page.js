// Sends pictures or texts to the server that this page came from, and shows what it answers, the newest first.
"use strict";

const picker = document.querySelector("#picker");
const mostBytes = Number(picker.dataset.mostBytes);
const drop = document.querySelector(".drop");
const writer = document.querySelector("#writer");
const FAILED = "The server failed at this; the terminal of demo.py may say why.";
const NOT_SENT = "This could not be sent. Is it a file, and is demo.py still running?";

function addCard(name) {
  const card = document.querySelector("template").content.firstElementChild.cloneNode(true);
  card.querySelector(".file").textContent = name;
  document.querySelector("#answers").prepend(card);
  return card;
}

function refuse(card, reason) {
  card.querySelector(".body").textContent = reason;
  card.querySelector(".body").classList.add("reason");
  card.removeAttribute("aria-busy");
}

// One at a time: a browser refuses thousands of requests at once, and the server answers them one by one anyway.
let turn = Promise.resolve();
function ask(name, url, content) {
  const card = addCard(name);
  turn = turn.then(() => answer(card, url, content));
}

async function answer(card, url, content) {
  try {
    const response = await fetch(url, { method: "POST", body: content });
    // 400 comes with the reason why it cannot be read.
    if (response.ok || response.status === 400) card.querySelector(".body").innerHTML = await response.text();
    else refuse(card, FAILED);
  } catch {
    refuse(card, NOT_SENT);
  }
  card.removeAttribute("aria-busy");
}

function askAbout(files) {
  for (const file of files) {
    if (writer && /\.(csv|tsv)$/i.test(file.name)) {
      refuse(addCard(file.name), "This is a table, not a text: predict.py answers it row by row.");
    } else if (file.size <= mostBytes) {
      ask(file.name, picker.dataset.url, file);
    } else {
      // The server would refuse it before it has arrived, which a browser takes for a broken connection.
      const [size, most] = [file.size, mostBytes].map((count) => count.toLocaleString("en"));
      refuse(addCard(file.name), `This cannot be read: ${size} bytes, more than the limit of ${most}.`);
    }
  }
}

picker.addEventListener("change", () => {
  askAbout(picker.files);
  picker.value = "";
});
if (writer) {
  writer.addEventListener("submit", (event) => {
    event.preventDefault();
    askAbout([new File([document.querySelector("#written").value], "written")]);
  });
}
for (const button of document.querySelectorAll("button[data-url]")) {
  button.addEventListener("click", () => ask(button.title, button.dataset.url));
}
document.addEventListener("paste", (event) => {
  // Where texts are written, a copy of formatted text also is a picture of it.
  if (!writer || !event.clipboardData.getData("text")) askAbout(event.clipboardData.files);
});
const isTextToWrite = (event) => event.target.id === "written" && !event.dataTransfer.types.includes("Files");
// Files may be dropped anywhere: a browser would leave the page for one that misses the box.
document.addEventListener("dragover", (event) => {
  if (isTextToWrite(event)) return;
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (isTextToWrite(event)) return;
  event.preventDefault();
  drop.classList.remove("over");
  askAbout(event.dataTransfer.files);
});
