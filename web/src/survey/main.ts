// Starts the report of a survey from its data block.

import type { Report } from "./data";
import { ReportPage } from "./page";

function boot(): void {
  const element = document.getElementById("foveate");
  const block = document.getElementById("foveate-data");
  if (element && block) new ReportPage(JSON.parse(block.textContent ?? "{}") as Report, element);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", boot);
else boot();
