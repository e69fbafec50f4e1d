// What Hugging Face's own client for JavaScript makes of a cache, and how it fills one; for tests/http/test_pull.py.
//   hub.mjs scan CACHE                    what is in it, as JSON
//   hub.mjs get CACHE HUB REPO FILE...    downloads the files, prints their paths
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const require = createRequire(process.env.LLORCH_HUB_CLIENT + "/");
const { scanCacheDir, downloadFileToCacheDir } = await import(pathToFileURL(require.resolve("@huggingface/hub")));
const [what, cacheDir, hubUrl, repo, ...files] = process.argv.slice(2);

console.debug = () => {};
if (what === "scan") {
    console.log(JSON.stringify(await scanCacheDir(cacheDir)));
} else {
    for (const path of files) console.log(await downloadFileToCacheDir({ repo, path, cacheDir, hubUrl }));
}
