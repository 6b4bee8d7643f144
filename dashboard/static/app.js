// What makes forms more comfortable. Every page works without it.
"use strict";

// Buttons that copy the text of an element.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// An entry that is certainly wrong is pointed out while it is typed. The server has the last word.
const octet = /^(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/;

function mistake(entry) {
  const [address, length, more] = entry.split("/");
  if (more !== undefined) return "has two slashes";
  if (/[*]/.test(entry)) return "has a wildcard: write a CIDR range, such as 10.1.0.0/16";
  if (/%/.test(entry)) return "has a zone: write the address without it";
  if (/[\s,;]/.test(entry)) return "holds more than one entry: write one a line";
  const six = address.includes(":");
  if (six && !/^[0-9a-fA-F:.]+$/.test(address)) return "is not an IPv6 address";
  if (!six && !(address.split(".").length === 4 && address.split(".").every((n) => octet.test(n)))) return "is not an IPv4 address";
  if (length !== undefined && !(/^\d{1,3}$/.test(length) && Number(length) <= (six ? 128 : 32))) return "has a length that is out of range";
  return "";
}

for (const field of document.querySelectorAll("[data-entries]")) {
  const note = document.createElement("p");
  note.className = "mistakes";
  note.setAttribute("role", "status");
  note.hidden = true;
  field.after(note);
  const check = () => {
    const wrong = [];
    field.value.split("\n").forEach((line, i) => {
      const entry = line.split("#")[0].trim().replace(/^- /, "").replace(/,$/, "").replace(/^["']|["']$/g, "");
      const what = entry && mistake(entry);
      if (what) wrong.push(`Line ${i + 1}: ${entry} ${what}.`);
    });
    note.textContent = wrong.slice(0, 5).join(" ");
    note.hidden = wrong.length === 0;
    field.setAttribute("aria-invalid", String(wrong.length > 0));
  };
  field.addEventListener("input", check);
  if (field.value) check();
}
