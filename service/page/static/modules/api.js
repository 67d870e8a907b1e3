// What the page asks its server. Errors are words for people, with what to do next.

const NEXT = {
  UNAUTHENTICATED: "Sign in again.",
  UNAVAILABLE: "Is the Semiome server running? Try again in a moment.",
  RESOURCE_EXHAUSTED: "Wait a little, then try again.",
  DEADLINE_EXCEEDED: "It took too long. Try again, or ask for less.",
  PERMISSION_DENIED: "Your role does not include this; ask your administrator.",
};

/** A refusal, with gRPC's name of its kind. */
export class Refused extends Error {
  constructor(code, text) {
    super(`${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."} ${NEXT[code] || ""}`.trim());
    this.code = code;
  }
}

async function answered(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let said = { code: "UNKNOWN", error: `the server answered ${response.status}` };
  try { said = await response.json(); } catch { /* not ours: a proxy's page, say */ }
  if (said.code === "UNAUTHENTICATED") document.dispatchEvent(new CustomEvent("signed-out"));
  throw new Refused(said.code, said.error);
}

async function ask(path, options) {
  let response;
  try { response = await fetch(path, options); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("UNAVAILABLE", "the page's server does not answer");
  }
  return answered(response);
}

export const get = (path) => ask(path, {});
export const post = (path, values, signal) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values), signal });
export const remove = (path) => ask(path, { method: "DELETE" });

/** Calls a method of the API, such as "CatalogService/GetCounts"; request and answer are its messages (docs/api.md). */
export const call = (method, request = {}, signal = undefined) => post(`/api/${method}`, request, signal);

/** Uploads a file as it is, telling how far it is. */
export function upload(path, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Refused("UNAVAILABLE", "the upload was cut off")));
    request.addEventListener("load", () =>
      answered(new Response(request.status === 204 ? null : request.responseText, { status: request.status })).then(resolve, reject));
    request.send(file);
  });
}

const path = (name) => encodeURIComponent(name);
export const films = { preview: (video) => `/preview/${path(video)}.mp4`, strip: (video, clip) => `/thumbnails/${path(video)}/${clip}.jpg` };

/** Clips that are shown and judged at a time: two hours. */
export const PART = 720;

/** A stored video with a part of its clips. */
export const clipsFrom = (video, first) => call("CatalogService/GetVideo", { video_id: video, first_clip: first, page_size: PART });

/** The verdict on a stored video, of its clips with those that are given. */
export const verdictOn = (video, clips) => call(`ClassificationService/Classify?from=${clips.length ? clips[0].clip_index : 0}&until=${clips.length ? clips[clips.length - 1].clip_index + 1 : 0}`, { item: { video_id: video } });

/** The videos of hits, by id: their signs and dates. */
export async function videosOf(hits, signal) {
  const ids = [...new Set(hits.map((hit) => hit.clip.video_id))];
  if (!ids.length) return new Map();
  const page = await call("CatalogService/ListVideos", { filter: { video_ids: ids }, page_size: 1000 }, signal);
  return new Map(page.videos.map((video) => [video.video_id, video]));
}
