// tests/npm/kubernetes/validate.js: checks manifests against the schemas that Kubernetes and Knative publish, in the form in which
// the npm packages kubernetes-models and @kubernetes-models/knative carry them: types and required fields by their validators, and
// fields that the schemas do not know by watching which ones the validators look at.
//
// usage: node validate.js FOLDER, where FOLDER/node_modules has them; reads a JSON list of manifests, writes a JSON list with a
// list of problems for each.
"use strict";
const fs = require("fs");
const path = require("path");

const folder = path.resolve(process.argv[2]);
const schemas = {
    core: [path.join(folder, "node_modules/kubernetes-models/_schemas"), "IoK8sApi"],
    knative: [path.join(folder, "node_modules/@kubernetes-models/knative/_schemas"), ""],
};

const capital = (word) => word[0].toUpperCase() + word.slice(1);

// apps/v1 Deployment: IoK8sApiAppsV1Deployment; serving.knative.dev/v1 Service: ServingKnativeDevV1Service or the like.
function findSchema({apiVersion, kind}) {
    const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["core", apiVersion];
    const isKnative = group.endsWith("knative.dev");
    const [where, prefix] = isKnative ? schemas.knative : schemas.core;
    const words = isKnative ? group.split(".") : [group.split(".")[0]];
    const name = prefix + words.map(capital).join("") + capital(version) + kind;
    const found = fs.readdirSync(where).find((file) => file.toLowerCase() === (name + ".js").toLowerCase());
    return found && require(path.join(where, found)).validate;
}

// The value with a note of every field that is read; lists the paths that never were.
function watched(value, at, unread) {
    if (value === null || typeof value !== "object")
        return value;
    const seen = new Set();
    const keys = Object.keys(value);
    const children = new Map(keys.map((key) => [key, watched(value[key], at + "/" + key, unread)]));
    unread.push(() => keys.filter((key) => !seen.has(key)).map((key) => at + "/" + key));
    return new Proxy(value, {
        get(target, key) {
            seen.add(key);
            return children.has(key) ? children.get(key) : target[key];
        },
    });
}

function problems(manifest) {
    const validate = findSchema(manifest);
    if (!validate)
        return [`no schema for ${manifest.apiVersion} ${manifest.kind}`];
    const unread = [];
    if (!validate(watched(manifest, "", unread)))
        return validate.errors.map((error) => `${error.instancePath}: ${error.message || error.keyword} ${JSON.stringify(error.params)}`);
    // A field below an unknown one is not named again.
    const paths = unread.flatMap((list) => list());
    return paths.filter((one) => !paths.some((other) => one.startsWith(other + "/"))).map((one) => `${one}: unknown field`);
}

console.log(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(problems)));
