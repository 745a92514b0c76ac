// Sends pictures or texts to the server that this page came from, and shows what it answers, the newest first.
"use strict";

const picker = document.querySelector("#picker");
const mostBytes = Number(picker.dataset.mostBytes);
const drop = document.querySelector(".drop");
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

async function ask(name, url, content) {
  const card = addCard(name);
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
    if (file.size <= mostBytes) {
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
const writer = document.querySelector("#writer");
if (writer) {
  writer.addEventListener("submit", (event) => {
    event.preventDefault();
    askAbout([new File([document.querySelector("#written").value], "written")]);
  });
}
for (const button of document.querySelectorAll("button[data-url]")) {
  button.addEventListener("click", () => ask(button.title, button.dataset.url));
}
document.addEventListener("paste", (event) => askAbout(event.clipboardData.files));
// Files may be dropped anywhere: a browser would leave the page for one that misses the box.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  askAbout(event.dataTransfer.files);
});
